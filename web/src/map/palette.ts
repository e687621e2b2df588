// Colours for data. Qualitative: Paul Tol's bright and muted schemes, then Okabe and Ito's, all told apart by people
// who do not see red or green. Ramps go from the background's grey to one strong end, so they read without hue.

/** For groups, most distinct first. */
export const SAFE = [
  "#4477aa", "#cc6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#e69f00", "#117733", "#88ccee", "#882255",
  "#999933", "#44aa99",
] as const;

/** For sets that a person makes. */
export const SET_COLOURS = [
  "#8f79d6", "#e08214", "#35978f", "#d6604d", "#5aae61", "#de77ae", "#bf812d", "#4393c3", "#9970ab", "#a6a630",
] as const;

export const NO_GROUP = { light: "#c3cad3", dark: "#454f5b" } as const;

const RAMP_LIGHT = ["#d9dde3", "#b5d4e9", "#5ba3cf", "#2171b5", "#08306b"];
const RAMP_DARK = ["#2b333e", "#2f5d86", "#4a93c9", "#8cc6ec", "#e4f3ff"];
/** Perceptually even, for numbers that have no zero: viridis, five of its steps. */
const EVEN = ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"];

export type RampName = "zero" | "even";

export function rampOf(name: RampName, dark: boolean): readonly string[] {
  return name === "even" ? EVEN : dark ? RAMP_DARK : RAMP_LIGHT;
}

/** Returns red, green and blue from 0 to 255; grey where the text is no colour. */
export function channels(hex: string): [number, number, number] {
  const found = /^#?([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})/i.exec(hex) ?? /^#([0-9a-f])([0-9a-f])([0-9a-f])$/i.exec(hex);
  if (!found) return [139, 151, 166];
  const [r, g, b] = found.slice(1, 4).map((part) => parseInt(part.length === 1 ? part + part : part, 16));
  return [r, g, b];
}

/** Packs a colour as WebGL reads it from a Uint32Array on a little-endian machine. */
export function packed(red: number, green: number, blue: number, alpha: number): number {
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** Returns 256 steps of a ramp, each three numbers. */
export function steps(stops: readonly string[]): Uint8Array {
  const known = stops.map(channels);
  const out = new Uint8Array(256 * 3);
  for (let i = 0; i < 256; i++) {
    const at = (i / 255) * (known.length - 1);
    const k = Math.min(known.length - 2, Math.floor(at));
    for (let c = 0; c < 3; c++) out[i * 3 + c] = Math.round(known[k][c] + (known[k + 1][c] - known[k][c]) * (at - k));
  }
  return out;
}

/** The two ends of a blend of two genes: their sum is near white or near black, so both together stand out. */
export const BLEND = { first: [214, 39, 120], second: [10, 150, 190] } as const;

/** Colours of the groups of a class: its own, or ours; beyond the palette they repeat, and labels tell. */
export function groupColours(own: readonly (string | null)[], useOwn: boolean): string[] {
  return own.map((color, i) => (useOwn && color ? color : SAFE[i % SAFE.length]));
}
