// The sum over a cluster: CLUSTER lanes that are neighbours by index, all in one subgroup. Its order depends on CLUSTER alone, not
// on the subgroup's size.
fn cluster_sum(own: f32) -> f32 {
  var sum = own;
#for i in 0..CLUSTER_STEPS
  sum += subgroupShuffleXor(sum, 1u << ${i}u);
#end
  return sum;
}
