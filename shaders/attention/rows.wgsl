// One subgroup: lanes are tokens of a page for the scores and dims for the output; everything else is broadcast from
// registers. The shape for CPU adapters.
@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  let tile = tile_of(group.y);
  let total = tile.position + tile.count;
#if SPLIT
  let start = group.z * ${SPLIT}u;
  let end = min(total, start + ${SPLIT}u);
  if (start >= total) { return; }
#else
  let start = 0u;
  let end = total;
#endif
#for t in 0..T
  let row${t} = tile.first + min(${t}u, tile.count - 1u);
#for g in 0..GROUP
  let query${t}_${g} = (row${t} * HEADS + head * GROUP + ${g}u) * HEAD_DIM + (lane & 7u);
  var max${t}_${g} = LOWEST;
  var sum${t}_${g} = 0.0;
#for o in 0..OUT_STEPS
  var out${t}_${g}_${o} = vec2(0.0);
#end
#end
#end
  for (var base = start; base < end; base += PAGE) {
    let page = step[tile.table + base / PAGE];
    let keys = k_word(page, head, 0u) + lane;
#for n in 0..TOKEN_STEPS
#for t in 0..T
#for g in 0..GROUP
    var s${t}_${g}_${n} = 0.0;
#end
#end
#end
    for (var dim = 0u; dim < HEAD_DIM; dim += 8u) {
#for t in 0..T
#for g in 0..GROUP
      let q${t}_${g} = q[query${t}_${g} + dim] * SCALE;
#end
#end
#for c in 0..4
#for n in 0..TOKEN_STEPS
      let k${c}_${n} = unpack2x16float(kv[keys + (dim / 2u + ${c}u) * PAGE + ${n*LANES}u]);
#end
#for t in 0..T
#for g in 0..GROUP
      let a${c}_${t}_${g} = subgroupBroadcast(q${t}_${g}, ${c*2}u);
      let b${c}_${t}_${g} = subgroupBroadcast(q${t}_${g}, ${c*2+1}u);
#for n in 0..TOKEN_STEPS
      s${t}_${g}_${n} = fma(b${c}_${t}_${g}, k${c}_${n}.y, fma(a${c}_${t}_${g}, k${c}_${n}.x, s${t}_${g}_${n}));
#end
#end
#end
#end
    }
#for t in 0..T
#for g in 0..GROUP
    var top${t}_${g} = max${t}_${g};
#for n in 0..TOKEN_STEPS
    let seen${t}_${g}_${n} = base + lane + ${n*LANES}u <= tile.position + ${t}u;
    s${t}_${g}_${n} = select(LOWEST, s${t}_${g}_${n}, seen${t}_${g}_${n});
    top${t}_${g} = max(top${t}_${g}, subgroupMax(s${t}_${g}_${n}));
#end
    let shrink${t}_${g} = exp(max${t}_${g} - top${t}_${g});
    max${t}_${g} = top${t}_${g};
    sum${t}_${g} *= shrink${t}_${g};
#for n in 0..TOKEN_STEPS
    let p${t}_${g}_${n} = select(0.0, exp(s${t}_${g}_${n} - top${t}_${g}), seen${t}_${g}_${n});
    sum${t}_${g} += p${t}_${g}_${n};
#end
#for o in 0..OUT_STEPS
    out${t}_${g}_${o} *= shrink${t}_${g};
#end
#end
#end
    for (var n = 0u; n < ${TOKEN_STEPS}u; n++) {
#for t in 0..T
#for g in 0..GROUP
#if TOKEN_STEPS == 2
      let p${t}_${g} = select(p${t}_${g}_0, p${t}_${g}_1, n == 1u);
#else
      let p${t}_${g} = p${t}_${g}_0;
#endif
#end
#end
      let values = v_word(page, head, n * ${LANES}u);
#for j in 0..LANES
#for t in 0..T
#for g in 0..GROUP
      let w${j}_${t}_${g} = subgroupBroadcast(p${t}_${g}, ${j}u);
#end
#end
#for o in 0..OUT_STEPS
      let v${j}_${o} = unpack2x16float(kv[values + ${j}u * PAIRS + min(lane + ${o*LANES}u, PAIRS - 1u)]);
#for t in 0..T
#for g in 0..GROUP
      out${t}_${g}_${o} = fma(vec2(w${j}_${t}_${g}), v${j}_${o}, out${t}_${g}_${o});
#end
#end
#end
#end
    }
  }
#for t in 0..T
#for g in 0..GROUP
  {
    let total_sum = subgroupAdd(sum${t}_${g});
    if (${t}u < tile.count) {
#if SPLIT
      let at = partial_at(group.y, head * GROUP + ${g}u, group.z);
      let scale = 1.0;
      if (lane == 0u) {
        out[at] = max${t}_${g};
        out[at + 1u] = total_sum;
      }
      let target_at = at + 2u;
#else
      let scale = 1.0 / total_sum;
      let target_at = (row${t} * HEADS + head * GROUP + ${g}u) * HEAD_DIM;
#endif
#for o in 0..OUT_STEPS
      if (lane + ${o*LANES}u < PAIRS) {
        out[target_at + (lane + ${o*LANES}u) * 2u] = out${t}_${g}_${o}.x * scale;
        out[target_at + (lane + ${o*LANES}u) * 2u + 1u] = out${t}_${g}_${o}.y * scale;
      }
#end
    }
  }
#end
#end
}
