// What violins and histograms show: genes, columns of numbers, scores of gene sets; and the worker's summaries of them by group.
import type { ReadonlySignal } from "@preact/signals";
import { cellColumn, knownColumn } from "../data/columns";
import { geneValues } from "../data/genes";
import { Kept, type Loaded } from "../data/loaded";
import { scoreOfGenes } from "../data/scores";
import { update, view } from "../state/view";
import { ask, facts } from "../wire/door";
import type { GroupSummaries, Grouping, Variable } from "../wire/types";

export interface PlotVariable {
  readonly key: string;
  readonly title: string;
  readonly gene: boolean;
  readonly of: Variable;
}

/** With more cells the page does not fetch the value of each; the worker's summaries suffice. */
const MAX_FETCHED = 200_000;
const kept = new Kept<GroupSummaries>(40);

export function addPlotColumn(name: string): void {
  const { plotColumns } = view.value;
  update({ plotColumns: plotColumns.includes(name) ? plotColumns : [...plotColumns, name], plot: "violin", right: "plots" });
}

export function addPlotScore(name: string): void {
  const { plotScores } = view.value;
  update({ plotScores: plotScores.includes(name) ? plotScores : [...plotScores, name], plot: "violin", right: "plots" });
}

export function variables(genes: readonly string[]): PlotVariable[] {
  const { plotColumns, plotScores, geneSets } = view.value;
  const scores = geneSets.filter((set) => plotScores.includes(set.name) && set.method !== "mean");
  return [
    ...plotColumns.filter((name) => knownColumn(name)).map((name) => ({ key: `column ${name}`, title: name, gene: false, of: { column: name } })),
    ...scores.map((set) => ({ key: `score ${set.name}`, title: set.name, gene: false, of: { score: { genes: [...set.genes], method: set.method === "scanpy" ? ("scanpy" as const) : ("seurat" as const) } } })),
    ...genes.map((gene) => ({ key: `gene ${gene}`, title: gene, gene: true, of: { gene } })),
  ];
}

/** Quantiles, density and counts of a variable in each group, of all its cells. */
export function summariesOf(variable: PlotVariable, groupBy: Grouping, version: string): ReadonlySignal<Loaded<GroupSummaries>> {
  return kept.get(JSON.stringify([variable.of, groupBy, version]), () =>
    ask("GetGroupSummaries", { of: variable.of, groupBy }, `${variable.title} by group`),
  );
}

/** The value of each cell; null while they load, and where there are too many cells for points. */
export function valuesOf(variable: PlotVariable): Float32Array | null {
  if ((facts.value?.cells ?? 0) > MAX_FETCHED) return null;
  if (variable.of.gene) {
    const now = geneValues(variable.of.gene).value;
    return now.state === "ready" ? now.value.values : null;
  }
  if (variable.of.column) {
    const now = cellColumn(variable.of.column).value;
    return now.state === "ready" && now.value.shape === "numbers" ? now.value.numbers.values : null;
  }
  const set = view.value.geneSets.find((item) => item.name === variable.title);
  const now = set && scoreOfGenes(set).value;
  return now?.state === "ready" ? now.value.values : null;
}
