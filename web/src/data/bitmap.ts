// Sets of cells as bytes by cell id, and as the keys that the worker understands (experiment/bitmaps.py).

/** One byte per cell id: 1 where the cell is in. */
export type Mask = Uint8Array;

const PREFIX = "cells:";

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
  return key.startsWith(PREFIX);
}

export function keyOf(mask: Mask): string {
  let last = mask.length;
  while (last > 0 && !mask[last - 1]) last--;
  const bytes = new Uint8Array((last + 7) >> 3);
  for (let i = 0; i < last; i++) if (mask[i]) bytes[i >> 3] |= 1 << (i & 7);
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return PREFIX + btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** Reads a key; ids that do not exist here are left out. Throws where it is no base64url. */
export function maskOfKey(key: string, size: number): Mask {
  const text = atob(key.slice(PREFIX.length).replaceAll("-", "+").replaceAll("_", "/"));
  const mask = new Uint8Array(size);
  for (let i = 0; i < size && i >> 3 < text.length; i++) mask[i] = (text.charCodeAt(i >> 3) >> (i & 7)) & 1;
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
