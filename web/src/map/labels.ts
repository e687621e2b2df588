// Where the names of groups stand: at the median cell of each.
import type { Points } from "../data/points";
import type { Paint } from "./paint";

export interface Label {
  readonly key: string;
  readonly text: string;
  readonly x: number;
  readonly y: number;
  /** Cells of the group: the larger one keeps its place where two names meet. */
  readonly cells: number;
}

const MAX_LABELS = 40;
const MAX_CHARACTERS = 28;
const SAMPLE = 2000;

/** Marks that turn the direction of what follows: in a name they would turn the page's own words. */
const TURNING = /[\u202a-\u202e\u2066-\u2069]/g;

/** A name as it can be seen and clicked; a file may hold one of spaces and marks alone. */
export function visible(name: string): string {
  return /[^\p{C}\p{Z}\p{M}]/u.test(name) ? name.replace(TURNING, "") : "(no visible name)";
}

/** The beginning of a name; no character is cut in two. */
export function shortened(name: string, most: number): string {
  const characters = [...visible(name.length > 4 * most ? name.slice(0, 4 * most) : name)];
  return characters.length > most || name.length > 4 * most ? `${characters.slice(0, most - 1).join("")}…` : characters.join("");
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
    xs[code].length ? [{ key: group.key, text: shortened(group.name, MAX_CHARACTERS), x: median(xs[code]), y: median(ys[code]), cells: group.count }] : [],
  );
}

const LINE_PX = 15;
const NARROW_PX = 7.2;
const WIDE_PX = 13;
/** How far a name may be moved from its cells, in lines, nearest first; a name without free space is left out. */
const MOVES = [0, 1, -1, 2, -2, 3, -3];

/** The approximate width of a text: characters of Asian scripts are wider than others. */
function widthOf(text: string): number {
  let width = 0;
  for (const character of text) width += character > "\u2e80" ? WIDE_PX : NARROW_PX;
  return width;
}

/** Places names on the screen so that none lies over another. */
export function labelsApart(labels: readonly Label[], toScreen: (x: number, y: number) => readonly [number, number]): Label[] {
  const placed: (Label & { readonly width: number })[] = [];
  for (const label of [...labels].sort((a, b) => b.cells - a.cells)) {
    const [x, y] = toScreen(label.x, label.y);
    const width = widthOf(label.text);
    const isFree = (at: number) => placed.every((other) => Math.abs(other.y - at) >= LINE_PX || Math.abs(other.x - x) >= (other.width + width) / 2);
    const move = MOVES.find((lines) => isFree(y + lines * LINE_PX));
    if (move !== undefined) placed.push({ ...label, x, y: y + move * LINE_PX, width });
  }
  return placed;
}
