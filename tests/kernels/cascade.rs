//! Cascade attention: tiles of decode rows that share splits, against the twin and the rows' own tiles; and the plan of who
//! shares what.

use headstart::gpu::{AdapterKind, Caps};
use headstart::kernels::{
    Class, Heads, KvFormat, PAGE,
    attention::{
        Scores,
        cascade::{Cascade, Plan, Row, Sharing, most_words},
        choose, shared, variants,
    },
};

use super::attention::{World, run_with};
use super::bench::{Bench, Face, Numbers, close, floats, heads};

const PLAIN: Scores = Scores { scale: 0.1, cap: None, window: None };
/// Groups of one head and of many, head sizes that lanes divide and others, windows within what is shared and behind it.
const CASES: [(Face, KvFormat, usize, usize, Scores); 5] = [
    (Face::Cpu, KvFormat::F16, 64, 3, PLAIN),
    (Face::Cpu, KvFormat::Q8, 40, 1, Scores { cap: Some(2.0), window: Some(300), ..PLAIN }),
    (Face::GpuPlain, KvFormat::F16, 40, 1, Scores { window: Some(257), ..PLAIN }),
    (Face::GpuPlain, KvFormat::Q8, 80, 8, Scores { cap: Some(2.0), ..PLAIN }),
    (Face::Gpu, KvFormat::F16, 64, 4, Scores { window: Some(300), ..PLAIN }),
];
/// Tokens of each sequence: some end just behind what they share, one is too short to share.
const CONTEXTS: [usize; 9] = [600, 527, 513, 690, 17, 650, 700, 640, 512];
/// Who shares how many tokens: two groups, one of which shares more within.
const SHARED: [(&[usize], usize); 3] = [(&[0, 1, 2, 3, 8], 272), (&[3, 0, 2], 512), (&[6, 5], 640)];

#[test]
fn rows_that_share_splits_have_the_bits_that_they_have_alone() {
    let mut bench = Bench::open();
    let mut worst: f64 = 0.0;
    for (face, kv, head_dim, group, scores) in CASES {
        let kv_heads = 2 - group % 2;
        let heads = Heads { kv, ..heads(kv_heads * group, kv_heads, head_dim) };
        let mut world = World::new(heads, scores, &CONTEXTS, CONTEXTS.len());
        SHARED.iter().for_each(|(sequences, tokens)| world.share(sequences, *tokens));
        let sharing = Sharing::of(&heads, &face.caps(bench.gpu.caps()), world.room).expect("room for several rows");
        let sharing = Sharing { least_groups: 1, ..sharing };
        let tile = |row: usize| [row as u32, 1, world.starts[row], CONTEXTS[row] as u32 - 1];
        let label = format!("{face:?} {heads:?} {scores:?}");
        // The order of tiles is not that of rows.
        for order in [vec![5, 0, 7, 2, 6, 1, 8, 4, 3], vec![3, 2, 0, 1]] {
            let pages = |row: usize| &world.tables[world.starts[row] as usize..];
            let rows: Vec<Row> =
                order.iter().map(|&row| Row { position: CONTEXTS[row] - 1, pages: pages(row) }).collect();
            let plan = sharing.plan(&rows);
            assert!(plan.cascade.spared > plan.cascade.read, "{label}: {plan:?}");
            let tiles = || order.iter().map(|&row| tile(row)).collect::<Vec<_>>();
            let together = run_with(&mut bench, face, &world, Class::Decode, tiles(), plan);
            let alone = run_with(&mut bench, face, &world, Class::Decode, tiles(), Plan::default());
            for &row in &order {
                let own = row * heads.heads * head_dim..(row + 1) * heads.heads * head_dim;
                assert!(together[own.clone()] == alone[own.clone()], "{label}: row {row} has other bits");
                let wanted = world.expected(row, row, CONTEXTS[row] - 1, false);
                worst = worst.max(close(&floats(&together)[own], &wanted, &format!("{label} row {row}")));
            }
        }
    }
    eprintln!("cascade attention: at most {worst:.2} of the allowed error");
}

/// As many rows as prompts have where they fit beside the lanes that decode rows have, and no tiles of one row.
#[test]
fn tiles_of_several_rows_fit_the_adapter_and_have_the_lanes_of_single_rows() {
    let of = |kind, kib: u32| Caps {
        subgroup_size: (kind == AdapterKind::Cpu).then_some(8),
        workgroup_memory: kib << 10,
        ..Caps::webgpu_default(kind)
    };
    let (cpu, small, large) = (of(AdapterKind::Cpu, 16), of(AdapterKind::Gpu, 16), of(AdapterKind::Gpu, 48));
    // Heads, KV heads, head size, room: rows on a CPU, on a GPU with the least memory and on one with more.
    let table = [
        ((9, 3, 64), 8192, [Some(4), Some(5), Some(5)]),
        ((32, 8, 128), 8192, [Some(2), Some(3), Some(4)]),
        ((4, 4, 64), 2048, [Some(4), Some(8), Some(8)]),
        ((8, 1, 256), 8192, [None, None, Some(2)]),
        ((71, 1, 64), 8192, [None, None, None]),
        // One split.
        ((4, 4, 64), 256, [None, Some(8), Some(8)]),
        ((4, 4, 64), 64, [None, None, None]),
    ];
    for ((q, kv, dim), room, expected) in table {
        let heads = heads(q, kv, dim);
        let rows = [&cpu, &small, &large].map(|caps| {
            let variant = shared(&heads, caps, room)?;
            let alone = choose(&heads, caps, Class::Decode, room, room);
            assert_eq!((variant.shape, variant.lanes, variant.split), (alone.shape, alone.lanes, alone.split));
            assert!(variants(&heads, caps, room).contains(&variant));
            assert_eq!(Sharing::of(&heads, caps, room).map(|sharing| sharing.rows), Some(variant.rows));
            Some(variant.rows)
        });
        assert_eq!(rows, expected, "{heads:?}, {room} tokens");
    }
}

const SHARING: Sharing = Sharing { rows: 4, split: 64, kv_heads: 2, least_groups: 1 };

/// The tables of sequences of `lengths` tokens, of which those in `groups` have the same first pages.
fn tables(lengths: &[usize], groups: &[(&[usize], usize)]) -> Vec<Vec<u32>> {
    let mut next = 0;
    let mut table = |length: &usize| {
        next += length.div_ceil(PAGE) as u32;
        (next - length.div_ceil(PAGE) as u32..next).collect()
    };
    let mut tables: Vec<Vec<u32>> = lengths.iter().map(&mut table).collect();
    for (members, tokens) in groups {
        let first = tables[members[0]][..tokens / PAGE].to_vec();
        members.iter().for_each(|&member| tables[member][..first.len()].copy_from_slice(&first));
    }
    tables
}

/// The plan for these sequences, of which each has one row at its end. Every tile must have rows of equal pages, in order.
fn planned(sharing: Sharing, lengths: &[usize], tables: &[Vec<u32>]) -> Plan {
    let rows: Vec<Row> =
        lengths.iter().zip(tables).map(|(length, pages)| Row { position: length - 1, pages }).collect();
    let plan = sharing.plan(&rows);
    let mut done = vec![0; rows.len()];
    assert!(plan.tiles.len() <= most_words(rows.len()));
    for tile in plan.tiles.chunks(3 + sharing.rows) {
        let [count, begin, end] = [tile[0], tile[1], tile[2]].map(|word| word as usize);
        let members: Vec<usize> = tile[3..3 + count].iter().map(|&row| row as usize).collect();
        let split = |row: usize| sharing.split.max(lengths[row].div_ceil(64 * PAGE) * PAGE);
        let pages = |row: usize| &tables[row][begin * split(row) / PAGE..end * split(row) / PAGE];
        for &row in &members {
            assert!(split(row) == split(members[0]) && pages(row) == pages(members[0]), "{plan:?}");
            assert!(end * split(row) < lengths[row], "row {row} shares its own token: {plan:?}");
            assert_eq!(std::mem::replace(&mut done[row], end), begin, "row {row}: {plan:?}");
        }
        assert!(members.is_sorted_by_key(|&row| lengths[row]), "{plan:?}");
    }
    assert!(done.iter().zip(&plan.shared).all(|(done, shared)| *done == *shared as usize), "{plan:?}");
    plan
}

#[test]
fn rows_share_the_splits_that_have_the_same_pages() {
    // Lengths, groups: the splits that each row shares, and the tiles as (rows, first split, end).
    type Case<'a> = (&'a [usize], &'a [(&'a [usize], usize)], &'a [u32], &'a [(u32, u32, u32)]);
    let table: [Case; 8] = [
        (&[500, 500, 500], &[], &[0, 0, 0], &[]),
        (&[500], &[], &[0], &[]),
        // Only whole splits, and none with a row's own token.
        (&[500, 400, 300], &[(&[0, 1, 2], 200)], &[3, 3, 3], &[(3, 0, 3)]),
        (&[193, 192, 200], &[(&[0, 1, 2], 192)], &[3, 2, 3], &[(3, 0, 2), (2, 2, 3)]),
        // A short row, two groups, and a group of more rows than a tile has.
        (&[300, 30, 300, 300, 300], &[(&[0, 2], 256), (&[3, 4], 128)], &[4, 0, 4, 2, 2], &[(2, 0, 4), (2, 0, 2)]),
        (&[99; 7], &[(&[0, 1, 2, 3, 4, 5, 6], 64)], &[1; 7], &[(3, 0, 1), (4, 0, 1)]),
        // Some share more than others.
        (&[400; 5], &[(&[0, 1, 2, 3], 128), (&[0, 3], 320)], &[5, 2, 2, 5, 0], &[(4, 0, 2), (2, 2, 5)]),
        // So long that splits are longer.
        (&[70_000, 70_001, 2400], &[(&[0, 1, 2], 2304)], &[2, 2, 0], &[(2, 0, 2)]),
    ];
    for (lengths, groups, shared, tiles) in table {
        let plan = planned(SHARING, lengths, &tables(lengths, groups));
        assert_eq!(plan.shared, shared, "{lengths:?} {groups:?}");
        let found: Vec<_> = plan.tiles.chunks(7).map(|tile| (tile[0], tile[1], tile[2])).collect();
        assert_eq!(found, tiles, "{lengths:?} {groups:?}");
        assert_eq!(plan.cascade.tiles, tiles.len());
    }
    // A page that is shared behind one that is not is read by each.
    let mut apart = tables(&[300; 3], &[(&[0, 1, 2], 256)]);
    apart[1][0] = 1000;
    assert_eq!(planned(SHARING, &[300; 3], &apart).shared, [4, 0, 4]);
}

#[test]
fn a_plan_counts_what_is_read_and_shares_nothing_that_does_not_pay() {
    let (lengths, groups): ([usize; 6], [(&[usize], usize); 2]) =
        ([500, 310, 320, 330, 340, 50], [(&[0, 1, 2, 3, 4], 256), (&[2, 3], 300)]);
    let tables = tables(&lengths, &groups);
    let plan = planned(SHARING, &lengths, &tables);
    let expected = Cascade {
        tiles: 2,
        tile_rows: 4,
        rows: 5,
        splits: 4,
        alone: 4,
        read: 2 * 256,
        spared: 5 * 256,
        end: 256,
        first: 309,
    };
    assert_eq!(plan.cascade, expected);
    // Eight splits of tiles for each of two KV heads.
    assert_eq!(planned(Sharing { least_groups: 16, ..SHARING }, &lengths, &tables), plan);
    let none = planned(Sharing { least_groups: 17, ..SHARING }, &lengths, &tables);
    assert_eq!(none, Plan { shared: vec![0; 6], ..Plan::default() });
    // Less than half of a tile.
    let many = planned(Sharing { rows: 11, ..SHARING }, &lengths, &tables);
    assert_eq!(many.cascade, Cascade::default());
}

#[test]
fn any_tables_give_tiles_of_equal_pages() {
    let numbers = Numbers::new(5);
    let below = |most: usize| (numbers.next() % most as u64) as usize;
    for _ in 0..300 {
        let count = 1 + below(12);
        let lengths: Vec<usize> = (0..count).map(|_| 1 + below(700)).collect();
        let mut tables = tables(&lengths, &[]);
        for _ in 0..below(12) {
            // The second has the first pages of the first.
            let [from, to] = [below(count), below(count)];
            let pages = below(45).min(tables[from].len()).min(tables[to].len());
            let first = tables[from][..pages].to_vec();
            tables[to][..pages].copy_from_slice(&first);
        }
        planned(Sharing { rows: 2 + below(7), ..SHARING }, &lengths, &tables);
    }
}
