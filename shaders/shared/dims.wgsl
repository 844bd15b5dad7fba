// What is read of keys and values: the dims of a word. `keys` is the index of word 0 of a token's key, `values` of its value.
// With KV_Q8 a word is Loaded beside the one that holds its factor.
#if KV_Q8
alias Dims = vec4<f32>;
alias Loaded = vec2<u32>;
fn factor_word(word: u32) -> u32 { return DIM_WORDS + word * WIDTH / (2u * BLOCK); }
fn load_key(keys: u32, word: u32) -> Loaded { return vec2(kv[keys + word * PAGE], kv[keys + factor_word(word) * PAGE]); }
fn load_value(values: u32, word: u32) -> Loaded { return vec2(kv[values + word], kv[values + factor_word(word)]); }
fn dims_of(loaded: Loaded, word: u32) -> Dims {
  let bits = (loaded.y >> (word * WIDTH / BLOCK % 2u * 16u)) & 0xffffu;
  return vec4<f32>(unpack4xI8(loaded.x)) * factor_from(bits);
}
#else
alias Dims = vec2<f32>;
alias Loaded = u32;
fn load_key(keys: u32, word: u32) -> Loaded { return kv[keys + word * PAGE]; }
fn load_value(values: u32, word: u32) -> Loaded { return kv[values + word]; }
fn dims_of(loaded: Loaded, word: u32) -> Dims { return unpack2x16float(loaded); }
#endif

fn key_dims(keys: u32, word: u32) -> Dims { return dims_of(load_key(keys, word), word); }
fn value_dims(values: u32, word: u32) -> Dims { return dims_of(load_value(values, word), word); }
