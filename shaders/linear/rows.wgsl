// Lanes are rows: each lane sums R neighbouring rows for T tokens, in order along COLS. No reduction, no barrier: the
// shape for CPU adapters, where a subgroup is one SIMD vector. x is loaded one element a lane and broadcast.
@compute @workgroup_size(${LANES})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let base = (group.x * ${LANES}u + lane) * ${R}u;
  let first = group.y * ${T}u;
  let last = span_rows() - 1u;
#for r in 0..R
  let row${r} = min(base + ${r}u, ROWS_HERE - 1u);
#for t in 0..T
  var sum${r}_${t} = 0.0;
#end
#end
#for t in 0..T
  let x${t} = batch_row(min(first + ${t}u, last)) * COLS;
  var squares${t} = 0.0;
#end
  for (var unit = 0u; unit < UNITS; unit += ${STEP}u) {
#for r in 0..R
    let scale${r} = load_scale(row${r}, unit / 4u);
#end
    for (var u = unit; u < unit + ${STEP}u; u++) {
      let at = u * 8u;
#for r in 0..R
      let w${r} = load_unit(row${r}, u, scale${r});
#end
#if SUBGROUP
#if NORM
      let gain = consts[at + (lane & 7u)];
#endif
#for t in 0..T
      let own${t} = x[x${t} + at + (lane & 7u)];
#if NORM
      squares${t} = fma(own${t}, own${t}, squares${t});
      let scaled${t} = own${t} * gain;
#else
      let scaled${t} = own${t};
#endif
      let lo${t} = vec4(subgroupBroadcast(scaled${t}, 0u), subgroupBroadcast(scaled${t}, 1u), subgroupBroadcast(scaled${t}, 2u), subgroupBroadcast(scaled${t}, 3u));
      let hi${t} = vec4(subgroupBroadcast(scaled${t}, 4u), subgroupBroadcast(scaled${t}, 5u), subgroupBroadcast(scaled${t}, 6u), subgroupBroadcast(scaled${t}, 7u));
#end
#else
#if NORM
      let gain_lo = vec4(consts[at], consts[at + 1u], consts[at + 2u], consts[at + 3u]);
      let gain_hi = vec4(consts[at + 4u], consts[at + 5u], consts[at + 6u], consts[at + 7u]);
#endif
#for t in 0..T
      var lo${t} = vec4(x[x${t} + at], x[x${t} + at + 1u], x[x${t} + at + 2u], x[x${t} + at + 3u]);
      var hi${t} = vec4(x[x${t} + at + 4u], x[x${t} + at + 5u], x[x${t} + at + 6u], x[x${t} + at + 7u]);
#if NORM
      squares${t} += dot(lo${t}, lo${t}) + dot(hi${t}, hi${t});
      lo${t} *= gain_lo;
      hi${t} *= gain_hi;
#endif
#end
#endif
#for t in 0..T
#for r in 0..R
      sum${r}_${t} = fma(w${r}.lo.x, lo${t}.x, sum${r}_${t});
      sum${r}_${t} = fma(w${r}.lo.y, lo${t}.y, sum${r}_${t});
      sum${r}_${t} = fma(w${r}.lo.z, lo${t}.z, sum${r}_${t});
      sum${r}_${t} = fma(w${r}.lo.w, lo${t}.w, sum${r}_${t});
      sum${r}_${t} = fma(w${r}.hi.x, hi${t}.x, sum${r}_${t});
      sum${r}_${t} = fma(w${r}.hi.y, hi${t}.y, sum${r}_${t});
      sum${r}_${t} = fma(w${r}.hi.z, hi${t}.z, sum${r}_${t});
      sum${r}_${t} = fma(w${r}.hi.w, hi${t}.w, sum${r}_${t});
#end
#end
    }
  }
#for t in 0..T
#if NORM
#if SUBGROUP
  // Each group of 8 lanes has seen the whole row once.
  let total${t} = subgroupAdd(squares${t}) * (8.0 / ${LANES}.0);
#else
  let total${t} = squares${t};
#endif
  let factor${t} = inverseSqrt(total${t} / f32(COLS) + EPSILON);
#else
  let factor${t} = 1.0;
#endif
#end
#for t in 0..T
#for p in 0..R/2
  finish(first + ${t}u, base + ${p*2}u, vec2(sum${p*2}_${t}, sum${p*2+1}_${t}) * factor${t});
#end
#end
}
