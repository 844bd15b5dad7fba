//! Every weight format compared with ggml's bytes, and its two GPU planes with its file bytes.

use headstart::quant::{BAND, Format, Layout, UNIT, grain};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use crate::support::blocks;

/// 96 numbers of three magnitudes, from the generator that was used for the reference bytes below.
fn reference_elements() -> Vec<f32> {
    let mut state = 1u32;
    let mut xs: Vec<f32> = (0..96)
        .map(|i| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            ((state >> 8) as f32 - 8388608.0) / 8388608.0 * [1.0, 0.03, 300.0][i / 32]
        })
        .collect();
    xs[..4].copy_from_slice(&[1.0, -1.0, 0.5, 0.0625]);
    xs
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The output of gguf-py 0.19 (`gguf.quants.quantize`, bit-exact with ggml's reference quantisers) for [`reference_elements`]
/// and for 32 zeros.
const REFERENCE: [(Format, &str, &str); 5] = [
    (
        Format::Q8_0,
        "08207f8140088edf460e8523c1ec1756bd7a5cd42e08b89c93d2a23515e1c4406daea70bd57ce30cf77f6036767aa7df30aa\
         feac1860d48474bb5586e28cd8a150e8a51db3404b6f83887f4ef5e42c773cfdeaa6673f23140a8eec1072d647c66971efef\
         db86",
        "00000000000000000000000000000000000000000000000000000000000000000000",
    ),
    (
        Format::Q4_0,
        "00b020bf5478dfeaf4b7ef567ca9c7431cd0989b7b20baf719c032f5a1f0aeea359de86daad063717fff907319ba45c11418\
         999ea2f4",
        "008088888888888888888888888888888888",
    ),
    (
        Format::Q4_1,
        "443000bcdf50ab8831261c5820ba946649bde43ffd1b63a795df5608e73fcd0b6e0f5225ca622792ef5095dcac9e80106f8c\
         e756ca4febe766625e0b",
        "0000000000000000000000000000000000000000",
    ),
    (
        Format::F16,
        "003c00bc0038002c31bb2db46538312fbcbb7534fcb7f8b0ce3164393db8b23bc6398ab5d835072c8cb854badfbaccb5ecb9\
         a2364e31b9b396b70438e43a2ab918a16c27d89ee7192a989827c3257f2208274c274da5d99fb8212ba5ab8f02a5a91db625\
         34a163a7ee2622a4182548a7239ff6a6bfa0aaa5c224a99d6ba5d21e8559105c95dc66dcaa5cb259b3ce13d470565d5c6158\
         02c753d2a3da8a5ba1581c55dd51d94d33dce4d1c0502f5c23d632593cd8b55b235c19d11fd17fd57edc",
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
         0000000000000000000000000000",
    ),
    (
        Format::Bf16,
        "803f80bf003f803d66bf86be0d3fe63d78bf8f3e00bf1fbe3a3e2d3f08bf763f393fb1bebb3e813d11bf4abf5cbfb9be3ebf\
         d43e2a3e77bef3be003f5d3f25bf23bcee3cdbbb3d3b05bbf33cb83c503ce13ce93caabcfbbb373ca5bcf5b9a0bcb53bb73c\
         26bcecbcde3c84bca33ce9bce4bbdfbc18bcb5bc983cb5bbadbcda3b3143824393c38dc395433643d6c182c2ce428c430c43\
         e0c04ac254c371431443a4423c42bb4186c33dc218428643c4c2264307c37743844323c224c2b0c290c3",
        "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
         0000000000000000000000000000",
    ),
];

#[test]
fn quantize_writes_the_bytes_of_the_reference_quantiser() {
    for (format, bytes, zeros) in REFERENCE {
        assert_eq!(format.quantize(&reference_elements()), hex(bytes), "{format}");
        assert_eq!(format.quantize(&[0.0; 32]), hex(zeros), "{format}: zeros");
    }
}

/// Q4_K tries several steps for each 32 numbers and keeps the best. Four blocks, with groups of one sign, of zeros and of one
/// number. The digest is of the output of ggml's `quantize_row_q4_K_ref` (llama.cpp of llama-cpp-python 0.3.36, built without
/// fused multiply-add).
#[test]
fn q4_k_writes_the_bytes_of_ggml() {
    let mut state = 1u32;
    let element = |i: usize| {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        let magnitude = [1.0, 0.03, 300.0, 1.0, 0.0, 2.0, 0.5, 1.0][i / 32 % 8];
        let x = ((state >> 8) as f32 - 8388608.0) / 8388608.0 * magnitude;
        match i / 32 % 8 {
            5 => x.abs(),
            7 => 0.75,
            _ => x,
        }
    };
    let elements: Vec<f32> = (0..1024).map(element).collect();
    let bytes = Format::Q4K.quantize(&elements);
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, "5ff228447eb2ebed3e58184256ad8d43d6a09e5c77a8bee044dac30432b94da6", "{:02x?}", &bytes[..32]);
    assert_eq!(Format::Q4K.quantize(&[0.0; 256]), [0; 144]);
}

/// The SHA-256 of the f32 numbers (with unsigned zeros) that gguf-py 0.19 (`gguf.quants.dequantize`) makes of
/// [`reference_blocks`].
const DEQUANTIZED: [(Format, &str); 13] = [
    (Format::Q8_0, "d5342454af4e7842ae68b94f4e3c5b2af5e6cefa8d28d2c61ebba38a62412222"),
    (Format::Q4_0, "874e57a85e5bff8757e37e301a172f352b943337abea55696e30e2b4140a0bb7"),
    (Format::Q4_1, "5c8b800b4ca21b746aeef108afd1ff58574ff6238f6d181d66d53aad6ee243d7"),
    (Format::Q5_0, "db9b2e30a6f1de0873148e7c406ba6c10250acbec9efb195ba96c8e7c5101779"),
    (Format::Q5_1, "dc1dbea76baea01c44b60f14ec05fdd4bb9bf0458fb6d60ea8d7fd85c1a836f0"),
    (Format::Q4K, "5942a5e105345ccfd21d67542f7202a9da6a9107d852676fccf74497769cf711"),
    (Format::Q5K, "1cb05903b275051dc1da48b7b47b420062b68017a9dd037111f7cc60c1d9d499"),
    (Format::Q6K, "280b02cd87f872f75c00b1f45ba09d8a42dd3417351aef84af4569045dfd86bc"),
    (Format::Q3K, "8d22f8bd9999d3662a33f70505728f4deead61cc72d811b00979f897bce9eae6"),
    (Format::Q2K, "7e7f94ace2a6bb1498478305faaeed5c691e7496584601262f6362de975aecb7"),
    (Format::Iq4Nl, "dabca5395da094b43e18be013ce84d7e744429e1e947aff7eaaf754b341950ba"),
    (Format::Iq4Xs, "1e20a1fc1f30ec89ef283fac067b165a647aca90541cb922f4f179180608dde8"),
    (Format::Mxfp4, "a61008b2c1ab83bf6ef3d6999d4a517f0b41ae6ad9deac95dcc2d1bfeb397393"),
];

/// 64 blocks of random bits, except that every f16 has a magnitude from 1/16 to 1/8, and every power of two is from 1/256 to
/// 1/2.
fn reference_blocks(format: Format) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        (state >> 24) as u8
    };
    let bytes = format.file_bytes(format.block());
    let mut raw: Vec<u8> = std::iter::repeat_with(&mut next).take(64 * bytes).collect();
    for block in raw.chunks_exact_mut(bytes) {
        for &(at, _) in blocks::halves(format) {
            block[at + 1] = block[at + 1] & 0x83 | 0x2c;
        }
        if format == Format::Mxfp4 {
            block[0] = block[0] & 7 | 0x78;
        }
    }
    raw
}

#[test]
fn dequantize_matches_the_reference() {
    for (format, digest) in DEQUANTIZED {
        let mut elements = vec![0.0; 64 * format.block()];
        format.dequantize(&reference_blocks(format), &mut elements);
        let bytes: Vec<u8> = elements.iter().flat_map(|x| (x + 0.0).to_le_bytes()).collect();
        let found: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, digest, "{format}: {:?}", &elements[..8]);
    }
}

#[test]
fn quantized_elements_are_within_half_a_step() {
    let xs = reference_elements();
    // The largest step of each block relative to its largest magnitude: 1/127, 1/8, and a range of 15 steps.
    for (format, steps) in
        [(Format::F16, 1024.0), (Format::Bf16, 128.0), (Format::Q8_0, 127.0), (Format::Q4_0, 8.0), (Format::Q4_1, 7.5)]
    {
        let mut back = vec![0.0; xs.len()];
        format.dequantize(&format.quantize(&xs), &mut back);
        for (block, (xs, back)) in xs.chunks(32).zip(back.chunks(32)).enumerate() {
            let largest = xs.iter().fold(0f32, |max, x| max.max(x.abs()));
            // q4_0 clips the side opposite its extreme, where the error is up to a whole step.
            let step = largest / steps * if format == Format::Q4_0 { 1.01 } else { 0.51 };
            for (x, y) in xs.iter().zip(back) {
                assert!((x - y).abs() <= step, "{format} block {block}: {x} came back as {y}");
            }
        }
    }
    let mut back = vec![0.0; xs.len()];
    Format::F32.dequantize(&Format::F32.quantize(&xs), &mut back);
    assert_eq!(xs, back);
}

#[test]
fn blocks_are_decoded_by_their_layout() {
    // d = 0.5 (0x3800), m = -1.0 (0xbc00); byte j holds j in the low nibble and 15 - j in the high one.
    let nibbles: Vec<u8> = (0..16u8).map(|j| j | ((15 - j) << 4)).collect();
    let mut out = [0.0; 32];
    Format::Q4_1.dequantize(&[&[0x00, 0x38, 0x00, 0xbc], &nibbles[..]].concat(), &mut out);
    assert_eq!((out[0], out[3], out[15], out[16], out[31]), (-1.0, 0.5, 6.5, 6.5, -1.0));
    Format::Q4_0.dequantize(&[&[0x00, 0x38], &nibbles[..]].concat(), &mut out);
    assert_eq!((out[0], out[8], out[15], out[16], out[31]), (-4.0, 0.0, 3.5, 3.5, -4.0));
    let bytes: Vec<u8> = (0..32u8).map(|j| j.wrapping_sub(16)).collect();
    Format::Q8_0.dequantize(&[&[0x00, 0x38], &bytes[..]].concat(), &mut out);
    assert_eq!((out[0], out[16], out[31]), (-8.0, 0.0, 7.5));
}

#[test]
fn planes_hold_elements_in_natural_order() {
    // Element i of a q4_1 row of 32 is i % 16 (d = 1, m = 0); read it back from the words as the shader does.
    let nibbles: Vec<u8> = (0..16u8).map(|j| j | (j << 4)).collect();
    let raw = [&[0x00, 0x3c, 0x00, 0x00], &nibbles[..]].concat();
    let (mut values, mut scales) = (vec![0; 4], vec![0; 1]);
    Format::Q4_1.pack_row(&raw, 32, &mut values, &mut scales);
    assert_eq!(values, [0x7362_5140, 0xfbea_d9c8, 0x7362_5140, 0xfbea_d9c8]);
    assert_eq!(scales, [0x0000_3c00]);

    let raw = [&[0x00, 0x3c], &(0..32u8).collect::<Vec<_>>()[..]].concat();
    let (mut values, mut scales) = (vec![0; 8], vec![!0; 1]);
    Format::Q8_0.pack_row(&raw, 32, &mut values, &mut scales);
    assert_eq!(values[..2], [0x0302_0100, 0x0706_0504]);
    assert_eq!(scales, [0x0000_3c00], "with an odd number of blocks the last half is 0");

    let (mut values, mut scales) = (vec![!0; 4], vec![]);
    Format::F16.pack_row(&[1, 0, 2, 0, 3, 0], 3, &mut values, &mut scales);
    assert_eq!(values, [0x0002_0001, 3, 0, 0]);
}

#[test]
fn names_and_numbers_map_back_to_their_format() {
    for format in Format::ALL {
        assert_eq!(Format::from_name(format.name()), Some(format));
        assert_eq!(Format::from_gguf(format.gguf()), Some(format));
    }
    assert_eq!(Format::from_gguf(29), None, "iq1_m is not supported");
    assert_eq!(Format::from_safetensors("BF16"), Some(Format::Bf16));
    assert_eq!(Format::from_safetensors("I64"), None);
    assert_eq!(Format::from_name("q9"), None);
}

/// A format, a valid row length, and that row's bytes: any bytes, including NaN scales.
fn row() -> impl Strategy<Value = (Format, usize, Vec<u8>)> {
    (prop::sample::select(&Format::ALL[..]), 1usize..70).prop_flat_map(|(format, blocks)| {
        let cols = blocks * format.block();
        (Just(format), Just(cols), prop::collection::vec(any::<u8>(), format.file_bytes(cols)))
    })
}

#[test]
fn bands_interleave_rows_by_grains_and_are_padded() {
    for (words, grain_words) in [(8, 4), (6, 1)] {
        assert_eq!(grain(words), grain_words);
        let row = |row: usize| (0..words).map(|i| (100 * (row + 1) + i) as u32).collect::<Vec<_>>();
        let rows = BAND + 2;
        let mut plane = vec![0; Layout::Bands.padded(rows) * words];
        assert_eq!(plane.len(), 2 * BAND * words);
        (0..rows).for_each(|i| Layout::Bands.put(i, &row(i), &mut plane));
        // Band by band, grain by grain, row by row.
        let of = |i: usize| if i < rows { row(i) } else { vec![0; words] };
        let expected: Vec<u32> = (0..2 * BAND)
            .step_by(BAND)
            .flat_map(|band| (0..words).step_by(grain_words).map(move |at| (band, at)))
            .flat_map(|(band, at)| (band..band + BAND).flat_map(move |i| of(i)[at..at + grain_words].to_vec()))
            .collect();
        assert_eq!(plane, expected);
    }
    let mut plane = vec![0; 6];
    assert_eq!(Layout::Rows.padded(2) * 3, plane.len());
    [[1, 2, 3], [4, 5, 6]].iter().enumerate().for_each(|(i, row)| Layout::Rows.put(i, row, &mut plane));
    assert_eq!(plane, [1, 2, 3, 4, 5, 6]);
}

proptest! {
    #[test]
    fn planes_unpack_to_the_files_values((format, cols, raw) in row()) {
        let mut values = vec![0xdead_beef; format.values_words(cols)];
        let mut scales = vec![0xdead_beef; format.scales_words(cols)];
        format.pack_row(&raw, cols, &mut values, &mut scales);
        let (mut unpacked, mut dequantized) = (vec![0.0; cols], vec![0.0; cols]);
        format.unpack_row(&values, &scales, cols, &mut unpacked);
        format.dequantize(&raw, &mut dequantized);
        // Bit for bit, except that all NaNs are equal: IEEE 754 leaves open which one an operation returns.
        let bits = |xs: &[f32]| {
            xs.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect::<Vec<_>>()
        };
        prop_assert_eq!(bits(&unpacked), bits(&dequantized));
        // Beyond `cols`, a dense row holds zeros.
        if format.block() == 1 {
            let words = format.values_words(UNIT) * 32 / UNIT;
            for i in cols..cols.next_multiple_of(UNIT) {
                let bit = i * words;
                prop_assert_eq!((values[bit / 32] >> (bit % 32)) & (u32::MAX >> (32 - words)), 0);
            }
        }
    }

    #[test]
    fn exact_formats_round_trip(bits in prop::collection::vec(any::<u32>(), 1..40)) {
        let xs: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        for format in [Format::F32, Format::F16, Format::Bf16] {
            let raw = format.quantize(&xs);
            let mut back = vec![0.0; xs.len()];
            format.dequantize(&raw, &mut back);
            prop_assert_eq!(format.quantize(&back), raw, "{}", format);
        }
    }
}
