// A table of genes as columns: sorted and filtered without an object per row, so that 60,000 rows respond at once.
import type { Column } from "../wire/columns";

export interface Table {
  readonly names: readonly string[];
  readonly ids: readonly string[];
  /** Number columns in the order in which they are shown; NaN where there is none. */
  readonly numbers: Readonly<Record<string, Float64Array>>;
}

export interface Sorting {
  /** "gene", or a number column. */
  readonly by: string;
  readonly descending: boolean;
}

export interface Filters {
  readonly text: string;
  /** Only genes whose fold change is larger than this, up or down; 0 takes all. */
  readonly minChange: number;
  readonly maxP: number | null;
  /** Rows picked in the volcano; null where none are. */
  readonly picked: ReadonlySet<number> | null;
}

export const NO_FILTERS: Filters = { text: "", minChange: 0, maxP: null, picked: null };

export interface ColumnInfo {
  readonly label: string;
  readonly title: string;
  readonly format: (value: number) => string;
}

const fixed = (digits: number) => (value: number) => (Number.isNaN(value) ? "–" : value.toFixed(digits));

export function pText(value: number): string {
  if (Number.isNaN(value)) return "–";
  if (value <= 2.3e-308) return "<1e-307";
  return value >= 0.001 ? value.toPrecision(2) : value.toExponential(1);
}

export const COLUMNS: Readonly<Record<string, ColumnInfo>> = {
  logFC: { label: "log FC", title: "log2 fold change of the mean expression, A over B", format: fixed(2) },
  p_val_adj: { label: "adj. p", title: "p-value adjusted for all genes (Benjamini and Hochberg)", format: pText },
  p_val: { label: "p", title: "p-value", format: pText },
  pct_1: { label: "% A", title: "Share of the cells of A that express the gene", format: fixed(0) },
  pct_2: { label: "% B", title: "Share of the cells of B that express the gene", format: fixed(0) },
  auc: { label: "AUC", title: "Chance that a cell of A has more than a cell of B; 0.5 is no difference", format: fixed(3) },
  AveExpr: { label: "mean", title: "Mean log2 counts per million over the samples", format: fixed(2) },
};

export function tableOfColumns(columns: ReadonlyMap<string, Column>): Table {
  const numbers: Record<string, Float64Array> = {};
  for (const name of Object.keys(COLUMNS)) {
    const column = columns.get(name);
    if (column?.kind === "number") numbers[name] = column.values instanceof Float64Array ? column.values : Float64Array.from(column.values);
  }
  const texts = (name: string) => {
    const column = columns.get(name);
    return column?.kind === "text" ? column.values.map((text) => text ?? "") : [];
  };
  return { names: texts("gene_names"), ids: texts("Gene"), numbers };
}

/** The tables of a batch, null where a set has too few cells. A table without names has those of the first table. */
export function tablesOfBatch(columns: ReadonlyMap<string, Column>, count: number): (Table | null)[] {
  const own: Map<string, Column>[] = Array.from({ length: count }, () => new Map<string, Column>());
  for (const [name, column] of columns) {
    const at = name.indexOf("/");
    own[Number(name.slice(0, at))]?.set(name.slice(at + 1), column);
  }
  let first: Table | null = null;
  return own.map((of) => {
    if (!of.size) return null;
    const table = tableOfColumns(of);
    first ??= table;
    return { ...table, names: of.has("gene_names") ? table.names : first.names, ids: of.has("Gene") ? table.ids : first.ids };
  });
}

function passes(table: Table, row: number, filters: Filters, wanted: string): boolean {
  if (filters.picked && !filters.picked.has(row)) return false;
  if (filters.minChange > 0 && !(Math.abs(table.numbers.logFC[row]) > filters.minChange)) return false;
  if (filters.maxP !== null && table.numbers.p_val_adj && !(table.numbers.p_val_adj[row] <= filters.maxP)) return false;
  return !wanted || table.names[row].toUpperCase().includes(wanted) || table.ids[row].toUpperCase().includes(wanted);
}

/** Genes with equal p are sorted by effect, strongest first: by the distance of the AUC, or of the change, from none. */
function strength(table: Table): (row: number) => number {
  const { auc, logFC } = table.numbers;
  return auc ? (row) => Math.abs(auc[row] - 0.5) : (row) => Math.abs(logFC[row]);
}

/** Returns the rows to show, in order. Rows without a number come last, however they are sorted. */
export function rowsOf(table: Table, filters: Filters, sorting: Sorting): Uint32Array {
  const wanted = filters.text.trim().toUpperCase();
  const kept: number[] = [];
  for (let row = 0; row < table.names.length; row++) if (passes(table, row, filters, wanted)) kept.push(row);
  const sign = sorting.descending ? -1 : 1;
  if (sorting.by === "gene") {
    kept.sort((a, b) => sign * (table.names[a] < table.names[b] ? -1 : table.names[a] > table.names[b] ? 1 : 0));
    return Uint32Array.from(kept);
  }
  const column = table.numbers[sorting.by];
  if (!column) return Uint32Array.from(kept);
  const strong = strength(table);
  const byP = sorting.by.startsWith("p_val");
  kept.sort((a, b) => {
    const one = column[a];
    const two = column[b];
    if (one === two) return byP ? sign * (strong(b) - strong(a)) || a - b : a - b;
    if (Number.isNaN(one)) return 1;
    if (Number.isNaN(two)) return -1;
    return sign * (one - two);
  });
  return Uint32Array.from(kept);
}

/** The columns of the file that a person downloads, every number in full. */
export function exported(table: Table): Record<string, ArrayLike<string | number>> {
  return { gene: table.names, id: table.ids, ...table.numbers };
}
