/** The part of the package `webgpu` that is used. Its own types conflict with the WebGPU types of TypeScript. */

export function create(options: string[]): object;
export const globals: object;
