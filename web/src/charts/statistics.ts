// Small statistics for charts; everything that is a result is the worker's.

export function quantile(sorted: ArrayLike<number>, share: number): number {
  if (!sorted.length) return NaN;
  const at = (sorted.length - 1) * share;
  const low = Math.floor(at);
  const high = Math.min(sorted.length - 1, low + 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}

/** A Gaussian kernel density at evenly spaced places, scaled to a highest value of 1 (Silverman's bandwidth). */
export function density(values: Float32Array, low: number, high: number, steps: number): Float64Array {
  const out = new Float64Array(steps);
  if (!values.length || high <= low) return out;
  const sorted = values.slice().sort();
  let mean = 0;
  for (const value of sorted) mean += value / sorted.length;
  let square = 0;
  for (const value of sorted) square += (value - mean) ** 2 / Math.max(1, sorted.length - 1);
  const spread = (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / 1.34;
  const sigma = Math.min(Math.sqrt(square), spread || Infinity) || (high - low) / 50;
  const width = Math.max(0.9 * sigma * Math.pow(sorted.length, -0.2), (high - low) / 120);
  // values first go into fine bins, so that a million of them cost no more than a thousand
  const bins = new Float64Array(steps * 4);
  const scale = (bins.length - 1) / (high - low);
  for (const value of sorted) bins[Math.round((value - low) * scale)]++;
  const reach = Math.ceil(3 * width * scale);
  let most = 0;
  for (let i = 0; i < steps; i++) {
    const centre = Math.round((i / (steps - 1)) * (bins.length - 1));
    for (let k = Math.max(0, centre - reach); k <= Math.min(bins.length - 1, centre + reach); k++) {
      if (bins[k]) out[i] += bins[k] * Math.exp(-0.5 * ((k - centre) / scale / width) ** 2);
    }
    most = Math.max(most, out[i]);
  }
  return most ? out.map((value) => value / most) : out;
}

/** A number between -1 and 1 that looks random and is the same for the same cell. */
export function jitter(cell: number): number {
  const mixed = Math.imul(cell ^ (cell >>> 15), 0x2c1b3c6d);
  return (((mixed ^ (mixed >>> 12)) >>> 0) / 4294967296) * 2 - 1;
}
