// Edits of cell sets.
import { cellsOf, type Mask } from "../data/bitmap";
import { SET_COLOURS } from "../map/palette";
import { change } from "./history";
import { findClass, findSet, OWN_CLASS, type CellClass, type CellSet } from "./model";

/** A key of its own: a random UUID, also where the page came unencrypted and browsers offer none. */
function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const digits = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function freeColour(siblings: readonly CellSet[]): string {
  const used = new Set(siblings.map((item) => item.color?.toLowerCase()));
  return SET_COLOURS.find((color) => !used.has(color)) ?? SET_COLOURS[siblings.length % SET_COLOURS.length];
}

function withOwnClass(list: readonly CellClass[]): readonly CellClass[] {
  if (list.some((item) => item.key === OWN_CLASS)) return list;
  const own: CellClass = { key: OWN_CLASS, name: "Custom cell sets", rootNode: true, type: "cellSets", children: [] };
  return [...list, own];
}

type Children = (children: readonly CellSet[]) => readonly CellSet[];

function replaced(list: readonly CellClass[], parent: string, to: Children): CellClass[] {
  return list.map((item) => (item.key === parent ? { ...item, children: to(item.children) } : item));
}

/** Makes a set in the class of custom sets; returns its key, null where the worker refuses it. */
export async function makeSet(name: string, mask: Mask): Promise<string | null> {
  const key = newKey();
  const cellIds = [...cellsOf(mask)];
  const add: Children = (children) => [...children, { key, name, rootNode: false, color: freeColour(children), cellIds }];
  return (await change(`make ${name}`, (now) => replaced(withOwnClass(now), OWN_CLASS, add))) ? key : null;
}

export interface NewSet {
  readonly name: string;
  readonly color: string | null;
  readonly mask: Mask;
}

/** Makes a class of several sets, after the others. */
export async function makeClass(name: string, sets: readonly NewSet[]): Promise<string | null> {
  const key = newKey();
  const children: CellSet[] = [];
  for (const item of sets) children.push({ key: newKey(), name: item.name, rootNode: false, color: item.color ?? freeColour(children), cellIds: [...cellsOf(item.mask)] });
  const made: CellClass = { key, name, rootNode: true, type: "cellSets", children: children.filter((child) => child.cellIds.length) };
  return (await change(`make ${name}`, (now) => [...now, made])) ? key : null;
}

/** Changes the sets of the class that one of them is in. */
function changeBeside(what: string, key: string, to: Children): Promise<boolean> {
  const found = findSet(key);
  return found ? change(`${what} ${found.set.name}`, (now) => replaced(now, found.parent.key, to)) : Promise.resolve(false);
}

export function renameSet(key: string, name: string): Promise<boolean> {
  if (!name.trim() || findSet(key)?.set.name === name) return Promise.resolve(false);
  return changeBeside("rename", key, (children) => children.map((item) => (item.key === key ? { ...item, name } : item)));
}

export function colourSet(key: string, color: string): Promise<boolean> {
  return changeBeside("colour", key, (children) => children.map((item) => (item.key === key ? { ...item, color } : item)));
}

export function deleteSet(key: string): Promise<boolean> {
  return changeBeside("delete", key, (children) => children.filter((item) => item.key !== key));
}

/** Puts a set before another of its class, or last. */
export function moveSet(key: string, before: string | null): Promise<boolean> {
  if (key === before) return Promise.resolve(false);
  return changeBeside("move", key, (children) => {
    const moved = children.find((item) => item.key === key);
    const others = children.filter((item) => item.key !== key);
    const at = before === null ? others.length : others.findIndex((item) => item.key === before);
    return at < 0 || !moved ? children : [...others.slice(0, at), moved, ...others.slice(at)];
  });
}

export function deleteClass(key: string): Promise<boolean> {
  const item = findClass(key);
  return item ? change(`delete ${item.name}`, (now) => now.filter((other) => other.key !== key)) : Promise.resolve(false);
}
