// Paints: one packed colour per cell, and the order in which cells are drawn.
import type { Mask } from "../data/bitmap";
import type { Points } from "../data/points";
import type { Paint } from "./paint";
import { BLEND, channels, NO_GROUP, packed, rampOf, steps } from "./palette";

export interface Emphasis {
  /** Keys of sets that are not shown. */
  readonly hidden: ReadonlySet<string>;
  readonly selected: Mask | null;
  /** Key of the set under the pointer. */
  readonly hovered: string | null;
  readonly dark: boolean;
}

const FULL = 255;
const FAINT = 56;

function faded(color: number, alpha: number): number {
  return ((color & 0xffffff) | (alpha << 24)) >>> 0;
}

type ColourOf = (cell: number) => number;

function groupColour(paint: Extract<Paint, { kind: "groups" }>, { hidden, hovered, dark }: Emphasis): ColourOf {
  const known = hovered !== null && paint.groups.some((group) => group.key === hovered);
  const colors = Uint32Array.from(paint.groups, (group) => {
    const [r, g, b] = channels(group.color);
    const alpha = hidden.has(group.key) ? 0 : known && group.key !== hovered ? FAINT : FULL;
    return packed(r, g, b, alpha);
  });
  const [r, g, b] = channels(dark ? NO_GROUP.dark : NO_GROUP.light);
  // where groups are hidden to look at a few alone, cells without a group are hidden too
  const none = packed(r, g, b, paint.groups.some((group) => hidden.has(group.key)) ? 0 : known ? FAINT : FULL);
  const { codes } = paint;
  return (cell) => (codes[cell] < 0 ? none : colors[codes[cell]]);
}

function numberColour(paint: Extract<Paint, { kind: "numbers" }>, dark: boolean): ColourOf {
  const table = steps(rampOf(paint.ramp, dark));
  const colors = Uint32Array.from({ length: 256 }, (_, i) => packed(table[i * 3], table[i * 3 + 1], table[i * 3 + 2], FULL));
  const [r, g, b] = channels(dark ? NO_GROUP.dark : NO_GROUP.light);
  const missing = packed(r, g, b, paint.ramp === "zero" ? FULL : 90);
  const { values, min, max } = paint;
  const scale = max > min ? 255 / (max - min) : 0;
  return (cell) => {
    const value = values[cell];
    return Number.isNaN(value) ? missing : colors[Math.max(0, Math.min(255, Math.round((value - min) * scale)))];
  };
}

function blendColour(paint: Extract<Paint, { kind: "blend" }>, dark: boolean): ColourOf {
  const base = channels(rampOf("zero", dark)[0]);
  const { first, second, max } = paint;
  return (cell) => {
    const a = max[0] ? Math.min(1, first[cell] / max[0]) : 0;
    const b = max[1] ? Math.min(1, second[cell] / max[1]) : 0;
    const mixed = [0, 1, 2].map((c) => {
      const toFirst = base[c] + (BLEND.first[c] - base[c]) * a;
      const both = dark ? 255 : 30;
      const plain = toFirst + (BLEND.second[c] - toFirst) * b * (1 - 0.5 * a);
      return Math.round(plain + (both - plain) * Math.min(a, b) * 0.8);
    });
    return packed(mixed[0], mixed[1], mixed[2], FULL);
  };
}

export function colourOf(paint: Paint, emphasis: Emphasis): ColourOf {
  switch (paint.kind) {
    case "groups":
      return groupColour(paint, emphasis);
    case "numbers":
      return numberColour(paint, emphasis.dark);
    case "blend":
      return blendColour(paint, emphasis.dark);
    case "plain": {
      const [r, g, b] = channels(emphasis.dark ? "#8b97a6" : "#6b7889");
      const one = packed(r, g, b, FULL);
      return () => one;
    }
  }
}

/** Returns a packed colour for every cell id; what is not shown has no opacity. */
export function coloursOf(paint: Paint, points: Points, emphasis: Emphasis): Uint32Array {
  const of = colourOf(paint, emphasis);
  const out = new Uint32Array(points.x.length);
  const { selected } = emphasis;
  for (const cell of points.placed) {
    const color = of(cell);
    out[cell] = selected && !selected[cell] && color >>> 24 ? faded(color, FAINT) : color;
  }
  return out;
}

/** The positions of a map's points in the graphics card's layout. */
export function placesOf(points: Points): Float32Array {
  const out = new Float32Array(points.x.length * 2);
  for (const cell of points.placed) {
    out[cell * 2] = points.x[cell];
    out[cell * 2 + 1] = points.y[cell];
  }
  return out;
}

/** Shuffles the same way every time, so that no group lies on top of the others. */
function shuffled(placed: Int32Array): Uint32Array {
  const out = Uint32Array.from(placed);
  let seed = 0x9e3779b9;
  for (let i = out.length - 1; i > 0; i--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((seed / 4294967296) * (i + 1));
    const kept = out[i];
    out[i] = out[j];
    out[j] = kept;
  }
  return out;
}

const BUCKETS = 1024;

/** Returns the cells in the order in which they are drawn: high values on top, groups mixed. */
export function orderOf(paint: Paint, points: Points): Uint32Array {
  const mixed = shuffled(points.placed);
  if (paint.kind === "groups" || paint.kind === "plain") return mixed;
  const level =
    paint.kind === "numbers"
      ? (cell: number) => (paint.values[cell] - paint.min) / (paint.max - paint.min || 1)
      : (cell: number) => (paint.first[cell] / (paint.max[0] || 1) + paint.second[cell] / (paint.max[1] || 1)) / 2;
  // a counting sort in steps: order within a step makes no visible difference
  const starts = new Uint32Array(BUCKETS + 1);
  const bucket = new Uint16Array(mixed.length);
  for (let i = 0; i < mixed.length; i++) {
    const at = level(mixed[i]);
    bucket[i] = at > 0 ? Math.min(BUCKETS - 1, 1 + Math.floor(at * (BUCKETS - 2))) : 0;
    starts[bucket[i] + 1]++;
  }
  for (let k = 0; k < BUCKETS; k++) starts[k + 1] += starts[k];
  const out = new Uint32Array(mixed.length);
  for (let i = 0; i < mixed.length; i++) out[starts[bucket[i]]++] = mixed[i];
  return out;
}
