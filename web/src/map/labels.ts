// Where the names of groups stand: at the median cell of each.
import type { Points } from "../data/points";
import type { Paint } from "./paint";

export interface Label {
  readonly key: string;
  readonly text: string;
  readonly x: number;
  readonly y: number;
}

const MAX_LABELS = 40;
const MAX_CHARACTERS = 28;
const SAMPLE = 2000;

export function shortened(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function median(values: number[]): number {
  values.sort((a, b) => a - b);
  return values[values.length >> 1];
}

export function placeLabels(paint: Extract<Paint, { kind: "groups" }>, points: Points): Label[] {
  if (paint.groups.length > MAX_LABELS) return [];
  const xs: number[][] = paint.groups.map(() => []);
  const ys: number[][] = paint.groups.map(() => []);
  const step = Math.max(1, Math.floor(points.placed.length / (SAMPLE * paint.groups.length)));
  for (let i = 0; i < points.placed.length; i += step) {
    const cell = points.placed[i];
    const code = paint.codes[cell];
    if (code >= 0) {
      xs[code].push(points.x[cell]);
      ys[code].push(points.y[cell]);
    }
  }
  return paint.groups.flatMap((group, code) =>
    xs[code].length ? [{ key: group.key, text: shortened(group.name, MAX_CHARACTERS), x: median(xs[code]), y: median(ys[code]) }] : [],
  );
}
