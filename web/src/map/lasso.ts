// Which cells an outline encloses.
import { common, union, without, type Mask } from "../data/bitmap";
import type { Points } from "../data/points";

export type Corner = readonly [number, number];
export type Combine = "replace" | "add" | "subtract" | "within";

/** Returns the cells inside a polygon in the map's coordinates, by the even-odd rule. */
export function enclosed(points: Points, outline: readonly Corner[], shown: (cell: number) => boolean): Mask {
  const mask = new Uint8Array(points.x.length);
  if (outline.length < 3) return mask;
  const xs = Float64Array.from(outline, (corner) => corner[0]);
  const ys = Float64Array.from(outline, (corner) => corner[1]);
  const left = Math.min(...xs);
  const right = Math.max(...xs);
  const bottom = Math.min(...ys);
  const top = Math.max(...ys);
  const n = xs.length;
  for (const cell of points.placed) {
    const x = points.x[cell];
    const y = points.y[cell];
    if (x < left || x > right || y < bottom || y > top) continue;
    let inside = false;
    for (let i = 0, j = n - 1; i < n; j = i++) {
      if (ys[i] > y !== ys[j] > y && x < ((xs[j] - xs[i]) * (y - ys[i])) / (ys[j] - ys[i]) + xs[i]) inside = !inside;
    }
    if (inside && shown(cell)) mask[cell] = 1;
  }
  return mask;
}

export function combined(before: Mask | null, drawn: Mask, how: Combine): Mask {
  if (!before || how === "replace") return how === "subtract" ? new Uint8Array(drawn.length) : drawn;
  return how === "add" ? union(before, drawn) : how === "subtract" ? without(before, drawn) : common(before, drawn);
}

/** Shift adds to the selection, Alt removes from it, both keep the intersection. */
export function combineOf(event: { shiftKey: boolean; altKey: boolean }): Combine {
  if (event.shiftKey && event.altKey) return "within";
  return event.shiftKey ? "add" : event.altKey ? "subtract" : "replace";
}

export function rectangle(a: Corner, b: Corner): Corner[] {
  return [a, [b[0], a[1]], b, [a[0], b[1]]];
}
