// The cell sets as the page holds them, read from cell_sets.json.
import { computed, signal } from "@preact/signals";
import { countOf, isBitmap, maskOf, maskOfKey, union, type Mask } from "../data/bitmap";
import { facts } from "../wire/door";

export interface CellSet {
  readonly key: string;
  readonly name: string;
  readonly color: string | null;
  readonly type?: string;
  readonly rootNode?: boolean;
  readonly cellIds: readonly number[];
}

export interface CellClass {
  readonly key: string;
  readonly name: string;
  readonly type?: string;
  readonly rootNode?: boolean;
  readonly children: readonly CellSet[];
}

/** The class of custom cell sets. */
export const OWN_CLASS = "scratchpad";

export const classes = signal<readonly CellClass[]>([]);

/** One entry more than the largest cell id. */
export const idCount = computed(() => (facts.value?.maxCellId ?? -1) + 1);

interface Raw {
  cellSets: (Omit<CellClass, "children"> & { children: (Omit<CellSet, "cellIds"> & { cellIds: number[] | number })[] })[];
}

export function parseCellSets(raw: unknown): CellClass[] {
  return (raw as Raw).cellSets.map((item) => ({
    ...item,
    children: item.children.map((child) => ({
      ...child,
      cellIds: Array.isArray(child.cellIds) ? child.cellIds : [child.cellIds],
    })),
  }));
}

export function findClass(key: string): CellClass | undefined {
  return classes.value.find((item) => item.key === key);
}

export function findIn(list: readonly CellClass[], key: string): { parent: CellClass; set: CellSet } | undefined {
  for (const parent of list) {
    const set = parent.children.find((child) => child.key === key);
    if (set) return { parent, set };
  }
  return undefined;
}

export function findSet(key: string): { parent: CellClass; set: CellSet } | undefined {
  return findIn(classes.value, key);
}

/** Compares what lists hold; fields that are lists have to be the same objects. */
function sameFields(one: object, two: object, list: string): boolean {
  const [before, after] = [one, two].map((item) => JSON.stringify({ ...item, [list]: 0 }));
  return before === after;
}

function sameSet(one: CellSet, two: CellSet): boolean {
  const cells = one.cellIds.length === two.cellIds.length && one.cellIds.every((cell, i) => cell === two.cellIds[i]);
  return cells && sameFields(one, two, "cellIds");
}

function sameClass(one: CellClass, two: CellClass): boolean {
  const children = one.children.length === two.children.length && one.children.every((child, i) => child === two.children[i]);
  return children && sameFields(one, two, "children");
}

/** Returns the list with the objects of an earlier one where they hold the same: nothing is painted again for them. */
export function keptWhereSame(before: readonly CellClass[], after: readonly CellClass[]): readonly CellClass[] {
  const known = new Map(before.map((item) => [item.key, item]));
  return after.map((item) => {
    const earlier = known.get(item.key);
    if (!earlier) return item;
    const sets = new Map(earlier.children.map((child) => [child.key, child]));
    const children = item.children.map((child) => {
      const old = sets.get(child.key);
      return old && sameSet(old, child) ? old : child;
    });
    const made = { ...item, children };
    return sameClass(earlier, made) ? earlier : made;
  });
}

/** The class to show first: types, else clusters, else any. */
export function likeliestClass(): CellClass | undefined {
  const filled = classes.value.filter((item) => item.children.length > 1);
  return filled.find((item) => /cell.?type|annot|type/i.test(item.name)) ?? filled.find((item) => item.key === "louvain") ?? filled[0];
}

/** The group of each cell in a class. A cell in several sets belongs to the first. */
export interface Groups {
  /** By cell id; -1 in no set. */
  readonly codes: Int32Array;
  readonly counts: readonly number[];
}

const groupsKept = new WeakMap<CellClass, Groups>();

export function groupsOf(item: CellClass): Groups {
  const known = groupsKept.get(item);
  if (known) return known;
  const codes = new Int32Array(idCount.value).fill(-1);
  const counts = item.children.map(() => 0);
  item.children.forEach((child, code) => {
    for (const cell of child.cellIds) {
      if (cell < codes.length) {
        counts[code]++;
        if (codes[cell] < 0) codes[cell] = code;
      }
    }
  });
  const made = { codes, counts };
  groupsKept.set(item, made);
  return made;
}

/** Returns the cells of a set, of a class, or of a bitmap; null where there is none of that key. */
export function maskOfCells(key: string): Mask | null {
  if (isBitmap(key)) return maskOfKey(key, idCount.value);
  const found = findSet(key);
  if (found) return maskOf(found.set.cellIds, idCount.value);
  const item = findClass(key);
  if (!item) return null;
  return item.children.reduce<Mask>((all, child) => union(all, maskOf(child.cellIds, idCount.value)), new Uint8Array(idCount.value));
}

export function sizeOf(key: string): number {
  const mask = maskOfCells(key);
  return mask ? countOf(mask) : 0;
}
