// Runs comparisons and keeps the last one.
import { computed, signal } from "@preact/signals";
import { failureOf, type Loaded } from "../data/loaded";
import { maskOfCells, findClass, findSet } from "../sets/model";
import { common, countOf, isBitmap, without } from "../data/bitmap";
import { shortened } from "../map/labels";
import { REST, view, type CompareMode, type Side } from "../state/view";
import { askColumns, facts } from "../wire/door";
import { say } from "../ui/notes";
import { NO_FILTERS, tableOfColumns, tablesOfBatch, type Filters, type Sorting, type Table } from "./table";

export interface Compared {
  readonly mode: CompareMode;
  readonly a: Side;
  readonly b: Side;
  readonly cellsA: number;
  readonly cellsB: number;
  readonly took: number;
  readonly table: Table;
  /** In a batch: the sets of the other tables. */
  readonly all: readonly { readonly name: string; readonly table: Table | null }[];
  readonly shown: number;
}

export const comparison = signal<Loaded<Compared> | null>(null);
export const filters = signal<Filters>(NO_FILTERS);
export const sorting = signal<Sorting>({ by: "p_val_adj", descending: false });

/** Class whose sets are compared one by one. */
export const batchClass = computed(() => {
  const map = view.value.maps.find((item) => item.colour.by === "class");
  return map?.colour.by === "class" ? (findClass(map.colour.key) ?? null) : null;
});

export function sideSize(side: Side, other: Side | null): number {
  const own = side.key === REST.key ? null : maskOfCells(side.key);
  if (!own) {
    const rest = other ? maskOfCells(other.key) : null;
    return (facts.value?.cells ?? 0) - (rest ? countOf(rest) : 0);
  }
  return countOf(own);
}

function sizes(a: Side, b: Side): [number, number] {
  const own = maskOfCells(a.key) ?? new Uint8Array(0);
  if (b.key === REST.key) return [countOf(own), (facts.value?.cells ?? 0) - countOf(own)];
  const other = maskOfCells(b.key) ?? new Uint8Array(own.length);
  const both = countOf(common(own, other));
  return [countOf(without(own, other)), countOf(other) - both];
}

async function pair(a: Side, b: Side, mode: CompareMode): Promise<Compared> {
  const [cellsA, cellsB] = sizes(a, b);
  if (b.key === REST.key && cellsB === 0) throw new Error("A holds every cell, so there is no rest. Choose a smaller A, or a B.");
  const started = performance.now();
  const body = { cellSet: a.key, compareWith: b.key, basis: "all", comparisonType: mode === "samples" ? "between" : "within" } as const;
  const result = await askColumns("DifferentialExpression", body, `${shortened(a.name, 40)} against ${shortened(b.name, 40)}`);
  return { mode, a, b, cellsA, cellsB, took: performance.now() - started, table: tableOfColumns(result.columns), all: [], shown: 0 };
}

async function batch(): Promise<Compared> {
  const item = batchClass.value;
  if (!item || item.children.length < 2) {
    throw new Error("Colour a map by a class of at least two cell sets: each of its sets is compared with the others.");
  }
  const started = performance.now();
  const body = { cellSet: item.children.map((child) => child.key), compareWith: "rest", basis: ["all"], comparisonType: "within" } as const;
  const { columns } = await askColumns("BatchDifferentialExpression", { ...body, cellSet: [...body.cellSet], basis: [...body.basis] }, `All sets of ${item.name}`);
  const tables = tablesOfBatch(columns, item.children.length);
  const all = item.children.map(({ name }, i) => ({ name, table: tables[i] }));
  const first = all.findIndex((entry) => entry.table);
  if (first < 0) throw new Error("None of these sets has enough cells to be compared.");
  return { mode: "clusters", ...batchSide(item.key, all, first), took: performance.now() - started, all, shown: first };
}

function batchSide(classKey: string, all: Compared["all"], shown: number) {
  const child = findClass(classKey)?.children[shown];
  const a: Side = { key: child?.key ?? "", name: all[shown].name };
  const b: Side = { key: "rest", name: "the others" };
  const cellsA = child?.cellIds.length ?? 0;
  return { a, b, cellsA, cellsB: (facts.value?.cells ?? 0) - cellsA, table: all[shown].table as Table };
}

export function showOfBatch(shown: number): void {
  const now = comparison.value;
  const item = batchClass.value;
  if (now?.state !== "ready" || !item || !now.value.all[shown]?.table) return;
  filters.value = { ...filters.value, picked: null };
  comparison.value = { state: "ready", value: { ...now.value, ...batchSide(item.key, now.value.all, shown), shown } };
}

let turn = 0;

/** Compares A with B as the panel says; a later call wins. */
export async function compare(): Promise<void> {
  const { a, b, mode } = view.value;
  if (!a && mode !== "clusters") {
    say("Choose A first: press A with cells selected, or with the pointer over a cell set.", "bad");
    return;
  }
  const mine = ++turn;
  filters.value = { ...filters.value, picked: null };
  comparison.value = { state: "loading" };
  try {
    const value = mode === "clusters" ? await batch() : await pair(a as Side, b, mode);
    if (!value.table.numbers[sorting.value.by] && sorting.value.by !== "gene") {
      sorting.value = { by: value.table.numbers.p_val_adj ? "p_val_adj" : "logFC", descending: false };
    }
    if (mine === turn) comparison.value = { state: "ready", value };
  } catch (error) {
    const plain = error instanceof Error && error.constructor === Error;
    if (mine === turn) comparison.value = plain ? { state: "failed", code: "", message: error.message } : failureOf(error);
  }
}

/** Whether a side still exists: sets may have been deleted since. */
export function isKnown(side: Side): boolean {
  return side.key === REST.key || isBitmap(side.key) || Boolean(findSet(side.key) ?? findClass(side.key));
}
