// Results stored in the file: scanpy's tests, tables, lists of Seurat objects.
import { signal, type ReadonlySignal } from "@preact/signals";
import { failureOf, Kept, type Loaded } from "../data/loaded";
import type { Column } from "../wire/columns";
import { ask, askColumns } from "../wire/door";
import type { DescribedResult } from "../wire/types";

export interface StoredTable {
  readonly names: readonly string[];
  readonly columns: readonly Column[];
  readonly rows: number;
  readonly parameters: Readonly<Record<string, string>>;
}

export const storedResults = signal<Loaded<readonly DescribedResult[]> | null>(null);
const kept = new Kept<StoredTable>(12);

/** Asks for the list, once. */
export async function loadStoredResults(): Promise<void> {
  if (storedResults.value?.state === "ready" || storedResults.value?.state === "loading") return;
  storedResults.value = { state: "loading" };
  try {
    storedResults.value = { state: "ready", value: (await ask("ListStoredResults", {}, "Results in the file")).results };
  } catch (error) {
    storedResults.value = failureOf(error);
  }
}

async function fetchTable(result: string, group: string | null): Promise<StoredTable> {
  const { facts, columns } = await askColumns("GetStoredResult", { result, ...(group ? { group } : {}) }, `Stored result ${result.slice(0, 40)}`);
  const names = [...columns.keys()];
  const values = [...columns.values()];
  const first = values[0];
  const rows = first ? (first.kind === "sparse" ? first.length : first.values.length) : 0;
  return { names, columns: values, rows, parameters: facts.parameters };
}

export function storedTable(result: string, group: string | null): ReadonlySignal<Loaded<StoredTable>> {
  return kept.get(JSON.stringify([result, group]), () => fetchTable(result, group));
}

/** One value as the file has it; null where it is missing. */
export function cellOf(column: Column, row: number): string | number | null {
  switch (column.kind) {
    case "category":
      return column.values[row] < 0 ? null : (column.labels[column.values[row]] ?? null);
    case "text":
      return column.values[row];
    case "sparse": {
      const at = column.rows.indexOf(row);
      return at < 0 ? 0 : column.values[at];
    }
    case "logical":
      return column.missing?.[row] ? null : column.values[row] ? "true" : "false";
    case "integer":
      return column.missing?.[row] ? null : column.values[row];
    case "number":
      return Number.isNaN(column.values[row]) ? null : column.values[row];
  }
}
