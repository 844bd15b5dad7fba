//! Which permutation of a kernel runs: a table of adapter, class of rows and number of rows.

use headstart::gpu::{AdapterKind, Caps};
use headstart::kernels::attention::{split, tile_rows};
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
    // A long context is cut into at most 64 splits of whole pages, none shorter than 256 tokens.
    for (context, expected) in [(1, 256), (256, 256), (16384, 256), (16385, 272), (131_072, 2048), (131_073, 2064)] {
        assert_eq!(split(context), expected, "{context} tokens");
        assert!(split(context).is_multiple_of(PAGE) && context.div_ceil(split(context)) <= 64);
    }
}
