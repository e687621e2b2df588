// Scores of gene sets from the worker: by Seurat's method, by scanpy's, or the plain mean.
import { signal, type ReadonlySignal } from "@preact/signals";
import type { GeneSet, ScoreMethod } from "../state/view";
import { ask } from "../wire/door";
import type { GeneScores } from "../wire/types";
import { Kept, type Loaded } from "./loaded";
import { columnOf, type NumberColumn } from "./numbers";

export const SCORE_METHODS: readonly (readonly [ScoreMethod, string])[] = [
  ["seurat", "as Seurat"], ["scanpy", "as scanpy"], ["mean", "their mean"],
];

/** The method of each score so far, by gene set: for the methods section of a paper. */
export const scored = signal<ReadonlyMap<string, Omit<GeneScores, "columns">>>(new Map());
const kept = new Kept<NumberColumn>(20);

async function mean(name: string, genes: readonly string[]): Promise<NumberColumn> {
  const got = await ask("GeneExpression", { genes: [...genes] }, `Score of ${name}`);
  const { values, index, size } = got.rawExpression;
  const sums = new Float32Array(size[0]);
  for (let i = 0; i < values.length; i++) sums[index[i]] += (values[i] ?? 0) / size[1];
  return columnOf(`mean of ${size[1]} genes`, sums);
}

async function score(name: string, genes: readonly string[], method: "seurat" | "scanpy"): Promise<NumberColumn> {
  const { columns, ...facts } = await ask("ScoreGenes", { genes: [...genes], method }, `Score of ${name}`);
  scored.value = new Map([...scored.value, [name, facts]]);
  return columnOf(`${method}, ${facts.genes.length} genes`, columns[0].values as (number | null)[]);
}

/** One number per cell: how much more it expresses the set than genes like them. */
export function scoreOfGenes({ name, genes, method = "seurat" }: GeneSet): ReadonlySignal<Loaded<NumberColumn>> {
  return kept.get(JSON.stringify([name, method, genes]), () => (method === "mean" ? mean(name, genes) : score(name, genes, method)));
}
