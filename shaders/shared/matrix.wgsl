// A weight matrix [ROWS_HERE, COLS] in two planes, values then scales (src/quant/mod.rs). Formats enter here.
#if FORMAT == 0
#import quant/f32
#endif
#if FORMAT == 1
#import quant/f16
#endif
#if FORMAT == 2
#import quant/bf16
#endif
#if FORMAT == 3
#import quant/q8_0
#endif
#if FORMAT == 4
#import quant/q4_0
#endif
#if FORMAT == 5
#import quant/q4_1
#endif

const UNITS = ${UNITS}u;
const SCALES_AT = ${SCALES_AT}u;
const SCALE_WORDS = ${SCALE_WORDS}u;

// Eight neighbouring weights of a row, as f32.
struct Unit { lo: vec4<f32>, hi: vec4<f32> }
