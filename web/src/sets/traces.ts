// What a change of cell sets touches, as short digests: they tell whether somebody else changed the same meanwhile.
import { findIn, type CellClass, type CellSet } from "./model";

/** By what is touched, its digest; null where it is not there. It can be saved, and compared after a reload. */
export type Traces = Readonly<Record<string, string | null>>;

interface Operation {
  readonly $match?: { readonly query: string; readonly value: Record<string, unknown> };
  readonly $insert?: { readonly value: CellClass & CellSet };
}

function keyOf(operation: Operation): string {
  if (operation.$insert) return operation.$insert.value.key;
  const quoted = /== (".*")\)\]$/s.exec(operation.$match?.query ?? "")?.[1];
  return JSON.parse(quoted ?? '""') as string;
}

/** A class as a whole, its fields alone, that it is there; a set. */
const WHOLE = "whole:";
const FIELDS = "fields:";
const THERE = "there:";
const SET = "set:";

/** Returns the marks of all that operations touch in a list of classes. */
export function touchedBy(operations: readonly object[], list: readonly CellClass[]): string[] {
  const marks = new Set<string>();
  for (const operation of operations as readonly Operation[]) {
    const key = keyOf(operation);
    const value = operation.$match?.value;
    if (!value || "$remove" in value) {
      marks.add(WHOLE + key);
      continue;
    }
    const { children, ...fields } = value;
    if (Object.keys(fields).length) marks.add(FIELDS + key);
    if (!children) continue;
    marks.add(THERE + key);
    for (const child of children as Operation[]) marks.add(SET + keyOf(child));
  }
  for (const item of list) if (marks.has(WHOLE + item.key)) for (const child of item.children) marks.add(SET + child.key);
  return [...marks];
}

function hashOfText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** The same for the same cells in any order. */
function hashOfCells(cells: readonly number[]): number {
  let sum = 0;
  for (const cell of cells) {
    const mixed = Math.imul(cell ^ (cell >>> 15) ^ 0x9e3779b9, 0x85ebca6b);
    sum = (sum + (mixed ^ (mixed >>> 13))) | 0;
  }
  return sum >>> 0;
}

function ofSet(set: CellSet): string {
  const text = `${set.name}\n${set.color ?? ""}`;
  return [text.length, hashOfText(text), set.cellIds.length, hashOfCells(set.cellIds)].map((part) => part.toString(36)).join(".");
}

function traceOf(mark: string, list: readonly CellClass[]): string | null {
  const at = mark.indexOf(":") + 1;
  const [kind, key] = [mark.slice(0, at), mark.slice(at)];
  if (kind === SET) {
    const found = findIn(list, key);
    return found ? ofSet(found.set) : null;
  }
  const item = list.find((other) => other.key === key);
  if (!item) return null;
  if (kind === THERE) return "";
  const keys = kind === WHOLE ? item.children.map((child) => child.key).sort() : [];
  return hashOfText([item.name, ...keys].join("\n")).toString(36);
}

export function tracesOf(marks: readonly string[], list: readonly CellClass[]): Traces {
  return Object.fromEntries(marks.map((mark) => [mark, traceOf(mark, list)]));
}

/** Returns the key of what differs from the traces in a list; null where all is as they say. */
export function differing(traces: Traces, list: readonly CellClass[]): string | null {
  const found = Object.keys(traces).find((mark) => traceOf(mark, list) !== traces[mark]);
  return found === undefined ? null : found.slice(found.indexOf(":") + 1);
}
