// What the browser tells about this device before a download. A field is absent if the browser does not tell it.

export interface Device {
  /** Largest buffer that a kernel can bind, in bytes. */
  buffer?: number;
  /** Bytes that this site may still store. */
  room?: number;
  /** Bytes of main memory, rounded by the browser. Absent at the top of its scale, which means that or more. */
  memory?: number;
}

export async function device(): Promise<Device> {
  const [buffer, room] = await Promise.all([largestBuffer().catch(() => undefined), roomLeft().catch(() => undefined)]);
  const memory = (navigator as { deviceMemory?: number }).deviceMemory;
  return {
    ...(buffer !== undefined && { buffer }),
    ...(room !== undefined && { room }),
    ...(memory !== undefined && memory < TOP_OF_SCALE && { memory: memory * 2 ** 30 }),
  };
}

/** The most gibibytes that browsers report. */
const TOP_OF_SCALE = 8;

interface Limits {
  maxBufferSize: number;
  maxStorageBufferBindingSize: number;
}

async function largestBuffer(): Promise<number | undefined> {
  const { gpu } = navigator as { gpu?: { requestAdapter(): Promise<{ limits: Limits } | null> } };
  const limits = (await gpu?.requestAdapter())?.limits;
  return limits && Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize);
}

async function roomLeft(): Promise<number | undefined> {
  const { quota, usage } = await navigator.storage.estimate();
  return quota === undefined ? undefined : Math.max(0, quota - (usage ?? 0));
}
