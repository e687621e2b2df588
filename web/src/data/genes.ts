// The genes' names, and the values of single genes.
import { computed, signal, type ReadonlySignal } from "@preact/signals";
import { floatsOf } from "../wire/columns";
import { ask, askColumns } from "../wire/door";
import { Kept, type Loaded } from "./loaded";

export interface GeneNames {
  /** Most variable first. */
  readonly names: readonly string[];
  readonly dispersions: Float32Array;
  /** Position by name in capitals. */
  readonly byUpper: ReadonlyMap<string, number>;
}

export const geneNames = signal<GeneNames | null>(null);

/** The values of one gene by cell id: 0 where it was not seen. */
export interface GeneValues {
  readonly name: string;
  readonly values: Float32Array;
  readonly max: number;
  /** Number of cells that express it. */
  readonly expressing: number;
}

const kept = new Kept<GeneValues>(60);

export async function loadGeneNames(): Promise<void> {
  const page = await ask("ListGenes", { orderBy: "dispersions", orderDirection: "DESC", offset: 0 }, "Names of genes");
  const byUpper = new Map<string, number>();
  page.gene_names.forEach((name, i) => byUpper.has(name.toUpperCase()) || byUpper.set(name.toUpperCase(), i));
  geneNames.value = {
    names: page.gene_names,
    dispersions: Float32Array.from(page.dispersions, (value) => value ?? 0),
    byUpper,
  };
}

/** Returns a gene's name as the experiment writes it, null where it has none of that name. */
export function knownGene(name: string): string | null {
  const position = geneNames.value?.byUpper.get(name.trim().toUpperCase());
  return position === undefined ? null : (geneNames.value?.names[position] ?? null);
}

async function fetchGene(name: string): Promise<GeneValues> {
  const got = await askColumns("GeneExpression", { genes: [name] }, `Expression of ${name}`);
  // several genes may share a name but for its case
  const column = got.columns.get(name) ?? [...got.columns.values()][0];
  const values = floatsOf(column);
  let max = 0;
  let expressing = 0;
  for (let i = 0; i < values.length; i++) {
    if (values[i] !== 0) expressing++;
    if (values[i] > max) max = values[i];
  }
  return { name, values, max, expressing };
}

export function geneValues(name: string): ReadonlySignal<Loaded<GeneValues>> {
  return kept.get(name, () => fetchGene(name));
}

/** The values of several genes together: ready when all are. */
export function valuesOfGenes(names: readonly string[]): ReadonlySignal<Loaded<GeneValues[]>> {
  const parts = names.map(geneValues);
  return computed(() => {
    const now = parts.map((part) => part.value);
    const failed = now.find((part) => part.state === "failed");
    if (failed) return failed;
    const values = now.flatMap((part) => (part.state === "ready" ? [part.value] : []));
    return values.length === names.length ? { state: "ready", value: values } : { state: "loading" };
  });
}

/** Finds genes as a person types: names that begin so come first, each group most variable first. */
export function findGenes(text: string, limit: number): string[] {
  const all = geneNames.value?.names ?? [];
  const wanted = text.trim().toUpperCase();
  if (!wanted) return all.slice(0, limit);
  const begin: string[] = [];
  const within: string[] = [];
  for (const name of all) {
    const at = name.toUpperCase().indexOf(wanted);
    if (at === 0) begin.push(name);
    else if (at > 0 && within.length < limit) within.push(name);
  }
  begin.sort((a, b) => Number(b.toUpperCase() === wanted) - Number(a.toUpperCase() === wanted));
  return [...begin.slice(0, limit), ...within].slice(0, limit);
}
