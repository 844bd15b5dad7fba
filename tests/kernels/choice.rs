//! Which permutation of a kernel runs: a table of adapter, class of rows and number of rows.

use headstart::gpu::{AdapterKind, Caps};
use headstart::kernels::attention::{self, partial_bytes, split, tile_rows};
use headstart::kernels::linear::{Shape, Variant, choose, choose_routed, variants};
use headstart::kernels::{Class, PAGE};

use super::bench::heads;

const ADAPTERS: [(AdapterKind, Option<u32>); 7] = [
    (AdapterKind::Cpu, None),
    (AdapterKind::Cpu, Some(4)),
    (AdapterKind::Cpu, Some(8)),
    (AdapterKind::Cpu, Some(16)),
    (AdapterKind::Gpu, None),
    (AdapterKind::Gpu, Some(32)),
    (AdapterKind::Gpu, Some(64)),
];

fn caps(kind: AdapterKind, subgroup: Option<u32>) -> Caps {
    Caps { subgroup, ..Caps::webgpu_default(kind) }
}

#[test]
fn matrices_choose_by_adapter_class_and_rows() {
    use AdapterKind::{Cpu, Gpu};
    use Class::{Decode, Prompt};
    let of = |shape, lanes, rows, tokens, subgroup| Variant { shape, lanes, rows, tokens, subgroup };
    let tile = of(Shape::Tile, 128, 64, 32, false);
    let table = [
        // Lanes are as many as a subgroup has, and a subgroup of less than eight is none.
        (Cpu, None, Decode, 1, of(Shape::Rows, 4, 2, 1, false)),
        (Cpu, Some(4), Decode, 1, of(Shape::Rows, 4, 2, 1, false)),
        (Cpu, Some(8), Decode, 2, of(Shape::Rows, 8, 2, 1, true)),
        (Cpu, Some(16), Decode, 3, of(Shape::Rows, 16, 4, 4, true)),
        (Cpu, Some(8), Prompt, 1, of(Shape::Rows, 8, 2, 1, true)),
        (Cpu, Some(8), Prompt, 512, of(Shape::Rows, 8, 4, 4, true)),
        // Decoding reduces along the columns; several rows share what is read of the weights.
        (Gpu, None, Decode, 1, of(Shape::Vector, 64, 4, 1, false)),
        (Gpu, Some(32), Decode, 1, of(Shape::Vector, 64, 4, 1, true)),
        (Gpu, Some(64), Decode, 2, of(Shape::Vector, 64, 4, 4, true)),
        // Prompts are tiles of one size, so that their number of rows changes no bit.
        (Gpu, None, Prompt, 1, tile),
        (Gpu, Some(32), Prompt, 512, tile),
    ];
    for (kind, subgroup, class, tokens, expected) in table {
        let chosen = choose(&caps(kind, subgroup), class, tokens);
        assert_eq!(chosen, expected, "{kind:?} with subgroups of {subgroup:?}, {tokens} rows of {class:?}");
    }
}

/// A choice that was not compiled would end the process; one of another shape for other rows would change bits.
#[test]
fn whatever_is_chosen_was_compiled_and_a_class_keeps_its_shape() {
    for (kind, subgroup) in ADAPTERS {
        let caps = caps(kind, subgroup);
        for (choose, class) in
            [choose, choose_routed].into_iter().flat_map(|of| [(of, Class::Prompt), (of, Class::Decode)])
        {
            let compiled = variants(choose, &caps, &[class]);
            let chosen: Vec<Variant> = (1..=1024).map(|tokens| choose(&caps, class, tokens)).collect();
            for (variant, tokens) in chosen.iter().zip(1..) {
                assert!(compiled.contains(variant), "{kind:?}, {tokens} rows of {class:?}: {variant:?}");
                assert_eq!((variant.shape, variant.lanes), (chosen[0].shape, chosen[0].lanes), "{tokens} rows");
            }
            assert!(compiled.iter().all(|variant| chosen.contains(variant)), "{kind:?}: some are never chosen");
        }
        // Tokens that decode seldom share an expert: each reads its own.
        assert!((1..=64).all(|tokens| choose_routed(&caps, Class::Decode, tokens).tokens == 1));
    }
}

#[test]
fn attention_takes_as_many_rows_as_the_adapter_has_room_for() {
    let (cpu, gpu) = (caps(AdapterKind::Cpu, None), caps(AdapterKind::Gpu, None));
    // Heads, KV heads, dimensions of a head: rows of a tile on a CPU and on a GPU.
    let table = [((9, 3, 64), 2, 5), ((32, 8, 128), 1, 4), ((8, 1, 256), 1, 1), ((4, 4, 64), 4, 8), ((2, 2, 8), 4, 8)];
    for ((q, kv, dim), on_cpu, on_gpu) in table {
        let heads = heads(q, kv, dim);
        let rows = [&cpu, &gpu].map(|caps| tile_rows(caps, &heads, Class::Prompt));
        assert_eq!(rows, [on_cpu, on_gpu], "{q} heads on {kv} of {dim}");
        assert_eq!([&cpu, &gpu].map(|caps| tile_rows(caps, &heads, Class::Decode)), [1, 1]);
    }
}

#[test]
fn attention_chooses_by_adapter_heads_class_and_room() {
    use AdapterKind::{Cpu, Gpu};
    use Class::{Decode, Prompt};
    use attention::{Shape::*, Variant, choose, variants};
    let of = |shape, lanes, rows, split| Variant { shape, lanes, rows, split };
    let (small, wide, many) = ((9, 3, 64), (32, 8, 128), (16, 1, 128));
    let table = [
        // Rows in the registers of a subgroup, or a lane for each token of a page.
        (Cpu, Some(8), small, Prompt, 4096, 4096, of(Rows, 8, 2, None)),
        (Cpu, Some(16), wide, Decode, 4096, 256, of(Rows, 16, 1, None)),
        (Cpu, Some(16), wide, Decode, 4096, 257, of(Rows, 16, 1, Some(256))),
        (Cpu, Some(4), wide, Decode, 4096, 4096, of(Group, 16, 1, Some(256))),
        (Cpu, None, small, Decode, 131_072, 4096, of(Group, 16, 1, Some(2048))),
        // The same for all prompts.
        (Gpu, None, small, Prompt, 700, 700, of(Group, 64, 5, None)),
        (Gpu, Some(32), wide, Prompt, 4096, 1, of(Group, 64, 4, None)),
        // Short splits with a lane for each token while there is room for short contexts only.
        (Gpu, None, small, Decode, 1024, 64, of(Group, 64, 1, None)),
        (Gpu, None, small, Decode, 1024, 65, of(Group, 64, 1, Some(64))),
        (Gpu, Some(32), wide, Decode, 1025, 128, of(Group, 128, 1, None)),
        (Gpu, Some(32), wide, Decode, 8192, 129, of(Group, 128, 1, Some(128))),
        (Gpu, None, wide, Decode, 8193, 8193, of(Group, 128, 1, Some(144))),
        // Queries that leave no workgroup memory for the weights of so many lanes.
        (Gpu, None, many, Decode, 8192, 8192, of(Group, 64, 1, Some(128))),
    ];
    for (kind, subgroup, (q, kv, dim), class, room, context, expected) in table {
        let heads = heads(q, kv, dim);
        let caps = caps(kind, subgroup);
        let what = format!("{kind:?} with subgroups of {subgroup:?}, {heads:?}, {class:?}, {context} of {room} tokens");
        assert_eq!(choose(&heads, &caps, class, room, context), expected, "{what}");
        // What is compiled is what is chosen, and lanes and splits do not depend on the contexts beside a row's.
        let chosen: Vec<Variant> = (1..=room).map(|context| choose(&heads, &caps, class, room, context)).collect();
        let compiled = variants(&heads, &caps, room);
        for variant in &chosen {
            assert!(compiled.contains(variant), "{what}: {variant:?} was not compiled");
            assert_eq!((variant.shape, variant.lanes), (expected.shape, expected.lanes), "{what}");
            assert!(variant.split.is_none_or(|tokens| tokens == split(kind, room)), "{what}");
        }
    }
}

#[test]
fn contexts_are_cut_into_at_most_64_splits_of_whole_pages_for_which_there_is_room() {
    // Room for contexts of so many tokens: a split's on a CPU and on a GPU.
    let table = [
        (1, 256, 64),
        (1024, 256, 64),
        (1025, 256, 128),
        (8192, 256, 128),
        (8193, 256, 144),
        (16384, 256, 256),
        (16385, 272, 272),
        (131_072, 2048, 2048),
        (131_073, 2064, 2064),
    ];
    let heads = heads(4, 2, 62);
    for (room, on_cpu, on_gpu) in table {
        for (kind, expected) in [(AdapterKind::Cpu, on_cpu), (AdapterKind::Gpu, on_gpu)] {
            let tokens = split(kind, room);
            let splits = room.div_ceil(tokens);
            assert_eq!(tokens, expected, "{kind:?}, {room} tokens");
            assert!(tokens.is_multiple_of(PAGE) && splits <= 64, "{kind:?}, {room} tokens");
            assert!(partial_bytes(&heads, 3, room) >= (3 * splits * 4 * 64 * 4) as u64, "{kind:?}, {room} tokens");
        }
    }
}
