export const size = (bytes: number): string => (bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`);

/** How much of a whole, with the unit once. */
export function share(part: number, whole: number): string {
  const [unit, name] = whole < 2 ** 30 ? [2 ** 20, "MiB"] : [2 ** 30, "GiB"];
  return `${(part / unit).toFixed(1)} of ${(whole / unit).toFixed(1)} ${name}`;
}
