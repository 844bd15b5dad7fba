/** As much of the package `webgpu` as is used: its own types are another version of those that TypeScript has. */

export function create(options: string[]): object;
export const globals: object;
