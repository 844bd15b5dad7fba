// The sources of a prompt token's KV, nearest first, with the names used everywhere on the page.

export const SOURCES = ["gpu", "memory", "disk", "remote", "pack", "computed"] as const;
export type Source = (typeof SOURCES)[number];

export const NAMES: Record<Source, string> = {
  gpu: "GPU",
  memory: "Memory",
  disk: "Disk",
  remote: "Shared store",
  pack: "Pack",
  computed: "Computed",
};

export const ORIGINS: Record<Source, string> = {
  gpu: "was still in GPU memory",
  memory: "was loaded from memory",
  disk: "was loaded from this browser's disk",
  remote: "was loaded from a shared store",
  pack: "was loaded from a prefix pack",
  computed: "was computed now",
};
