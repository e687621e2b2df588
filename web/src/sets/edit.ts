// Edits of cell sets.
import { cellsOf, type Mask } from "../data/bitmap";
import { SET_COLOURS } from "../map/palette";
import { change } from "./history";
import { classes, findSet, OWN_CLASS, type CellClass, type CellSet } from "./model";

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

function withOwnClass(): readonly CellClass[] {
  if (classes.value.some((item) => item.key === OWN_CLASS)) return classes.value;
  const own: CellClass = { key: OWN_CLASS, name: "Custom cell sets", rootNode: true, type: "cellSets", children: [] };
  return [...classes.value, own];
}

function replaced(list: readonly CellClass[], parent: string, to: (children: readonly CellSet[]) => readonly CellSet[]): CellClass[] {
  return list.map((item) => (item.key === parent ? { ...item, children: to(item.children) } : item));
}

/** Makes a set in the class of custom sets; returns its key, null where the worker refuses it. */
export async function makeSet(name: string, mask: Mask): Promise<string | null> {
  const list = withOwnClass();
  const siblings = list.find((item) => item.key === OWN_CLASS)?.children ?? [];
  const key = newKey();
  const made: CellSet = { key, name, rootNode: false, color: freeColour(siblings), cellIds: [...cellsOf(mask)] };
  const after = replaced(list, OWN_CLASS, (children) => [...children, made]);
  return (await change(`make ${name}`, after)) ? key : null;
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
  return (await change(`make ${name}`, [...classes.value, made])) ? key : null;
}

export function renameSet(key: string, name: string): Promise<boolean> {
  const found = findSet(key);
  if (!found || !name.trim() || found.set.name === name) return Promise.resolve(false);
  const to = (children: readonly CellSet[]) => children.map((item) => (item.key === key ? { ...item, name } : item));
  return change(`rename ${found.set.name}`, replaced(classes.value, found.parent.key, to));
}

export function colourSet(key: string, color: string): Promise<boolean> {
  const found = findSet(key);
  if (!found) return Promise.resolve(false);
  const to = (children: readonly CellSet[]) => children.map((item) => (item.key === key ? { ...item, color } : item));
  return change(`colour ${found.set.name}`, replaced(classes.value, found.parent.key, to));
}

export function deleteSet(key: string): Promise<boolean> {
  const found = findSet(key);
  if (!found) return Promise.resolve(false);
  const to = (children: readonly CellSet[]) => children.filter((item) => item.key !== key);
  return change(`delete ${found.set.name}`, replaced(classes.value, found.parent.key, to));
}

/** Puts a set before another of its class, or last. */
export function moveSet(key: string, before: string | null): Promise<boolean> {
  const found = findSet(key);
  if (!found || key === before) return Promise.resolve(false);
  const to = (children: readonly CellSet[]) => {
    const others = children.filter((item) => item.key !== key);
    const at = before === null ? others.length : others.findIndex((item) => item.key === before);
    return at < 0 ? children : [...others.slice(0, at), found.set, ...others.slice(at)];
  };
  return change(`move ${found.set.name}`, replaced(classes.value, found.parent.key, to));
}

export function deleteClass(key: string): Promise<boolean> {
  const item = classes.value.find((other) => other.key === key);
  if (!item) return Promise.resolve(false);
  return change(`delete ${item.name}`, classes.value.filter((other) => other !== item));
}
