// Positions of points in a chart; the worker computes all results.

/** A number between -1 and 1 that looks random and is the same for the same cell. */
export function jitter(cell: number): number {
  const mixed = Math.imul(cell ^ (cell >>> 15), 0x2c1b3c6d);
  return (((mixed ^ (mixed >>> 12)) >>> 0) / 4294967296) * 2 - 1;
}
