// Finds the cell nearest to a place: points sorted into the squares of a grid, once per map.
import type { Points } from "../data/points";

export interface Grid {
  readonly columns: number;
  readonly rows: number;
  readonly side: number;
  /** ``cells[starts[k]:starts[k + 1]]`` lie in square k. */
  readonly starts: Uint32Array;
  readonly cells: Int32Array;
}

const POINTS_PER_SQUARE = 4;
const known = new WeakMap<Points, Grid>();

function make({ x, y, placed, bounds }: Points): Grid {
  const across = Math.max(bounds.right - bounds.left, 1e-6);
  const up = Math.max(bounds.top - bounds.bottom, 1e-6);
  const side = Math.sqrt((across * up * POINTS_PER_SQUARE) / Math.max(placed.length, 1));
  const columns = Math.floor(across / side) + 1;
  const rows = Math.floor(up / side) + 1;
  const square = (cell: number) =>
    Math.floor((y[cell] - bounds.bottom) / side) * columns + Math.floor((x[cell] - bounds.left) / side);
  const starts = new Uint32Array(columns * rows + 1);
  for (const cell of placed) starts[square(cell) + 1]++;
  for (let k = 0; k < columns * rows; k++) starts[k + 1] += starts[k];
  const next = starts.slice();
  const cells = new Int32Array(placed.length);
  for (const cell of placed) cells[next[square(cell)]++] = cell;
  return { columns, rows, side, starts, cells };
}

export function gridOf(points: Points): Grid {
  const found = known.get(points) ?? make(points);
  known.set(points, found);
  return found;
}

/**
 * Returns the cell nearest to a place, null where none lies within the radius.
 *
 * @param shown whether a cell is on the map at all
 */
export function nearest(
  points: Points,
  at: readonly [number, number],
  radius: number,
  shown: (cell: number) => boolean,
): number | null {
  const { columns, rows, side, starts, cells } = gridOf(points);
  const { bounds } = points;
  const low = (value: number, from: number) => Math.max(0, Math.floor((value - radius - from) / side));
  const high = (value: number, from: number, most: number) =>
    Math.min(most - 1, Math.floor((value + radius - from) / side));
  let best: number | null = null;
  let closest = radius * radius;
  for (let row = low(at[1], bounds.bottom); row <= high(at[1], bounds.bottom, rows); row++) {
    for (let column = low(at[0], bounds.left); column <= high(at[0], bounds.left, columns); column++) {
      const k = row * columns + column;
      for (let i = starts[k]; i < starts[k + 1]; i++) {
        const dx = points.x[cells[i]] - at[0];
        const dy = points.y[cells[i]] - at[1];
        const distance = dx * dx + dy * dy;
        if (distance <= closest && shown(cells[i])) {
          closest = distance;
          best = cells[i];
        }
      }
    }
  }
  return best;
}
