// Devices have subgroups where an adapter has useful ones.
import assert from "node:assert/strict";
import { test } from "node:test";
import { withSubgroups } from "../../dist/webgpu.js";

/** A GPU whose devices are what they were requested with. */
const gpu = (features, info) => ({
  requestAdapter: async ({ powerPreference }) => ({
    features: new Set(features), limits: { powerPreference }, info, requestDevice: async (descriptor) => descriptor,
  }),
});

/** The device that wgpu gets. */
async function device(features, info) {
  const adapter = await withSubgroups(gpu(features, info)).requestAdapter({ powerPreference: "high-performance" });
  assert.deepEqual([...adapter.features], features);
  assert.equal(adapter.info, info);
  assert.equal(adapter.limits.powerPreference, "high-performance");
  return adapter.requestDevice({ label: "headstart", requiredFeatures: ["timestamp-query"] });
}

test("subgroups of eight lanes or more are requested beside other features", async () => {
  for (const subgroupMinSize of [8, 32]) {
    const { label, requiredFeatures } = await device(["subgroups", "timestamp-query"], { subgroupMinSize });
    assert.deepEqual([label, ...requiredFeatures], ["headstart", "timestamp-query", "subgroups"]);
  }
});

test("nothing is requested of a browser without subgroups, or with small ones", async () => {
  // Firefox; SwiftShader; Metal, where browsers do not know the size.
  for (const [features, info] of [[["timestamp-query"], {}], [["subgroups"], { subgroupMinSize: 4 }], [["timestamp-query"], { subgroupMinSize: 32 }]]) {
    assert.deepEqual((await device(features, info)).requiredFeatures, ["timestamp-query"]);
  }
});

test("there may be no adapter", async () => {
  assert.equal(await withSubgroups({ requestAdapter: async () => null }).requestAdapter(), null);
});
