// Sets of cells as bytes by cell id, and as the keys that the worker understands (experiment/bitmaps.py): the shorter
// one of a bitmap and ranges of ids.

/** One byte per cell id: 1 where the cell is in. */
export type Mask = Uint8Array;

const PREFIX = "cells:";
const RANGES = "ranges:";

export function countOf(mask: Mask): number {
  let count = 0;
  for (let i = 0; i < mask.length; i++) count += mask[i];
  return count;
}

export function maskOf(cells: ArrayLike<number>, size: number): Mask {
  const mask = new Uint8Array(size);
  for (let i = 0; i < cells.length; i++) if (cells[i] < size) mask[cells[i]] = 1;
  return mask;
}

export function cellsOf(mask: Mask): Int32Array {
  const cells = new Int32Array(countOf(mask));
  for (let i = 0, k = 0; i < mask.length; i++) if (mask[i]) cells[k++] = i;
  return cells;
}

export function isBitmap(key: string): boolean {
  return key.startsWith(PREFIX) || key.startsWith(RANGES);
}

/** Ranges of ids, null where they are longer than `longest` characters. */
function rangesOf(mask: Mask, end: number, longest: number): string | null {
  const parts: string[] = [];
  let length = 0;
  for (let i = 0; i < end && length < longest; i++) {
    if (!mask[i]) continue;
    const first = i;
    while (i + 1 < end && mask[i + 1]) i++;
    const part = first === i ? `${first}` : `${first}-${i}`;
    length += part.length + (parts.length ? 1 : 0);
    parts.push(part);
  }
  return length < longest ? parts.join(",") : null;
}

export function keyOf(mask: Mask): string {
  let last = mask.length;
  while (last > 0 && !mask[last - 1]) last--;
  const ranges = last ? rangesOf(mask, last, (4 * (((last - 1) >> 3) + 1)) / 3) : null;
  if (ranges !== null) return RANGES + ranges;
  const bytes = new Uint8Array((last + 7) >> 3);
  for (let i = 0; i < last; i++) if (mask[i]) bytes[i >> 3] |= 1 << (i & 7);
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return PREFIX + btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** Reads a key; ids that do not exist here are left out. Throws where it is neither base64url nor ranges. */
export function maskOfKey(key: string, size: number): Mask {
  if (key.startsWith(RANGES)) return maskOfRanges(key.slice(RANGES.length), size);
  const text = atob(key.slice(PREFIX.length).replaceAll("-", "+").replaceAll("_", "/"));
  const mask = new Uint8Array(size);
  for (let i = 0; i < size && i >> 3 < text.length; i++) mask[i] = (text.charCodeAt(i >> 3) >> (i & 7)) & 1;
  return mask;
}

function maskOfRanges(text: string, size: number): Mask {
  if (!/^(\d{1,10}(-\d{1,10})?(,\d{1,10}(-\d{1,10})?)*)?$/.test(text)) throw new Error("These are no ranges of cells.");
  const mask = new Uint8Array(size);
  for (const part of text ? text.split(",") : []) {
    const [first, last = first] = part.split("-").map(Number);
    mask.fill(1, Math.min(first, size), Math.min(last + 1, size));
  }
  return mask;
}

export function union(a: Mask, b: Mask): Mask {
  return a.map((value, i) => value | b[i]);
}

export function without(a: Mask, b: Mask): Mask {
  return a.map((value, i) => value & (1 - b[i]));
}

export function common(a: Mask, b: Mask): Mask {
  return a.map((value, i) => value & b[i]);
}
