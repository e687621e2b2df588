// The columns of cell metadata: which there are, and the values of one.
import { signal, type ReadonlySignal } from "@preact/signals";
import { floatsOf, type Column } from "../wire/columns";
import { ask, askColumns } from "../wire/door";
import type { DescribedCellColumn } from "../wire/types";
import { failureOf, Kept, type Loaded } from "./loaded";
import { columnOf, type NumberColumn } from "./numbers";

/** The column of a file as the page shows it: groups with names, or numbers. */
export type CellColumn =
  | { readonly shape: "groups"; readonly codes: Int32Array; readonly labels: readonly string[]; readonly counts: readonly number[]; readonly colors: readonly (string | null)[] }
  | { readonly shape: "numbers"; readonly numbers: NumberColumn; readonly dates: boolean };

/** Up to this many days, each day is a group; more days are a scale. */
const MAX_DATES = 20;

export const cellColumns = signal<Loaded<readonly DescribedCellColumn[]>>({ state: "loading" });
const kept = new Kept<CellColumn>(24);

export async function loadCellColumns(): Promise<void> {
  kept.forget();
  try {
    cellColumns.value = { state: "ready", value: (await ask("ListCellColumns", {}, "Columns of cells")).columns };
  } catch (error) {
    cellColumns.value = failureOf(error);
  }
}

export function knownColumn(name: string): DescribedCellColumn | undefined {
  const now = cellColumns.value;
  return now.state === "ready" ? now.value.find((column) => column.name === name) : undefined;
}

function groups(codes: Int32Array, labels: readonly string[], colors: readonly string[] | null): CellColumn {
  const counts = labels.map(() => 0);
  for (const code of codes) if (code >= 0) counts[code]++;
  return { shape: "groups", codes, labels, counts, colors: labels.map((_, i) => colors?.[i] ?? null) };
}

function logicals(column: Extract<Column, { kind: "logical" }>): CellColumn {
  const codes = Int32Array.from(column.values, (value, i) => (column.missing?.[i] ? -1 : value ? 0 : 1));
  return groups(codes, ["true", "false"], null);
}

function dated(column: Extract<Column, { kind: "category" }>, name: string): CellColumn {
  const times = column.labels.map((label) => Date.parse(label));
  return { shape: "numbers", dates: true, numbers: columnOf(name, Float64Array.from(column.values, (code) => (code < 0 ? NaN : times[code] / 864e5))) };
}

async function fetchColumn(name: string): Promise<CellColumn> {
  const { facts, columns } = await askColumns("GetCellColumn", { column: name }, `Column ${name.slice(0, 40)}`);
  const column = columns.get(name) ?? [...columns.values()][0];
  if (column.kind === "logical") return logicals(column);
  if (column.kind !== "category") return { shape: "numbers", numbers: columnOf(name, floatsOf(column)), dates: false };
  const isDate = facts.kind === "date" || facts.kind === "time";
  return isDate && column.labels.length > MAX_DATES ? dated(column, name) : groups(Int32Array.from(column.values), column.labels, facts.colors);
}

export function cellColumn(name: string): ReadonlySignal<Loaded<CellColumn>> {
  return kept.get(name, () => fetchColumn(name));
}

/** A number of days since 1970 as a date. */
export function dateText(days: number): string {
  return new Date(days * 864e5).toISOString().slice(0, 10);
}

/** The key by which a group of a column is hidden or highlighted; no cell set has such a key. */
export function groupKey(column: string, label: string): string {
  return `column:${column}:${label}`;
}
