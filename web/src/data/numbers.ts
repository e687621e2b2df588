// One number per cell: quality measures, scores of gene sets, pseudotime.
import { signal, type ReadonlySignal } from "@preact/signals";
import { floatsOf } from "../wire/columns";
import { askColumns } from "../wire/door";
import type { TaskName } from "../wire/types";
import { Kept, type Loaded } from "./loaded";

export interface NumberColumn {
  readonly label: string;
  /** By cell id; NaN where a cell has none. */
  readonly values: Float32Array;
  readonly min: number;
  readonly max: number;
  /** Cells that have a finite number. */
  readonly known: number;
}

export type NumberTask = Extract<TaskName, "GetNUmis" | "GetNGenes" | "GetMitochondrialContent" | "GetDoubletScore">;

export const NUMBER_LABELS: Readonly<Record<NumberTask, string>> = {
  GetNUmis: "UMI counts, log10",
  GetNGenes: "Genes per cell, log10",
  GetMitochondrialContent: "Mitochondrial reads, %",
  GetDoubletScore: "Doublet score",
};

const kept = new Kept<NumberColumn>(20);

/** The last computed pseudotime. */
export const pseudotime = signal<NumberColumn | null>(null);

export function columnOf(label: string, raw: ArrayLike<number | null>): NumberColumn {
  const values = new Float32Array(raw.length);
  let min = Infinity;
  let max = -Infinity;
  let known = 0;
  for (let i = 0; i < raw.length; i++) {
    const value = raw[i] ?? NaN;
    values[i] = value;
    if (!Number.isFinite(value)) continue;
    known++;
    if (value < min) min = value;
    if (value > max) max = value;
  }
  return { label, values, min: known ? min : 0, max: known ? max : 0, known };
}

export function numberColumn(task: NumberTask): ReadonlySignal<Loaded<NumberColumn>> {
  const label = NUMBER_LABELS[task];
  return kept.get(task, async () => columnOf(label, floatsOf([...(await askColumns(task, {}, label)).columns.values()][0])));
}
