// Turns a choice of colouring into a colour for each cell.
import { computed, type ReadonlySignal } from "@preact/signals";
import { cellColumn, dateText, groupKey, type CellColumn } from "../data/columns";
import { geneValues } from "../data/genes";
import { type Loaded } from "../data/loaded";
import { numberColumn, pseudotime, type NumberColumn } from "../data/numbers";
import { scoreOfGenes } from "../data/scores";
import { classes, findClass, groupsOf } from "../sets/model";
import { view, type Colouring } from "../state/view";
import { facts } from "../wire/door";
import { groupColours, type RampName } from "./palette";

export interface Group {
  readonly key: string;
  readonly name: string;
  readonly color: string;
  readonly count: number;
}

export type Paint =
  | { kind: "groups"; title: string; codes: Int32Array; groups: readonly Group[] }
  | { kind: "numbers"; title: string; unit: string; values: Float32Array; min: number; max: number; ramp: RampName; said: string; ends?: readonly [string, string] }
  | { kind: "blend"; title: string; first: Float32Array; second: Float32Array; names: readonly [string, string]; max: readonly [number, number] }
  | { kind: "plain"; title: string };

type NumbersPaint = Extract<Paint, { kind: "numbers" }>;

const LOADING = { state: "loading" } as const;

export function colourTitle(colour: Colouring): string {
  switch (colour.by) {
    case "class":
      return findClass(colour.key)?.name ?? colour.key;
    case "gene":
      return colour.with ? `${colour.gene} and ${colour.with}` : colour.gene;
    case "number":
      return { GetNUmis: "UMI counts", GetNGenes: "Genes per cell", GetMitochondrialContent: "Mitochondrial reads", GetDoubletScore: "Doublet score" }[colour.task];
    case "score":
    case "column":
      return colour.name;
    case "pseudotime":
      return "Pseudotime";
    case "plain":
      return "nothing";
  }
}

function classPaint(key: string): Loaded<Paint> {
  const item = classes.value.find((other) => other.key === key);
  if (!item) return { state: "failed", code: "", message: `There is no class of cell sets “${key}” here any more. Choose another colour.` };
  const { codes, counts } = groupsOf(item);
  const colors = groupColours(item.children.map((child) => child.color), view.value.palette === "own");
  const groups = item.children.map((child, i) => ({ key: child.key, name: child.name, color: colors[i], count: counts[i] }));
  return { state: "ready", value: { kind: "groups", title: item.name, codes, groups } };
}

function numbersPaint(column: NumberColumn, title: string): NumbersPaint {
  const ramp: RampName = column.min >= 0 && column.min < 0.2 * column.max ? "zero" : "even";
  return { kind: "numbers", title, unit: column.label, values: column.values, min: column.min, max: column.max, ramp, said: column.known ? "" : "no cell has a value" };
}

function map<T, U>(source: Loaded<T>, to: (value: T) => U): Loaded<U> {
  return source.state === "ready" ? { state: "ready", value: to(source.value) } : source;
}

function columnPaint(name: string, column: CellColumn): Paint {
  if (column.shape === "numbers") {
    const { min, max } = column.numbers;
    return { ...numbersPaint(column.numbers, name), kind: "numbers", unit: "", ramp: "even", ...(column.dates ? { ends: [dateText(min), dateText(max)] as const } : {}) };
  }
  const colors = groupColours(column.colors, view.value.palette === "own");
  const groups = column.labels.map((label, i) => ({ key: groupKey(name, label), name: label || "(no name)", color: colors[i], count: column.counts[i] }));
  return { kind: "groups", title: name, codes: column.codes, groups };
}

function genePaint(gene: string, other: string | undefined): () => Loaded<Paint> {
  const first = geneValues(gene);
  const second = other ? geneValues(other) : null;
  return () =>
    second && first.value.state === "ready"
      ? map(second.value, (b) => {
          const a = (first.value as { value: typeof b }).value;
          return { kind: "blend", title: `${gene} and ${other}`, first: a.values, second: b.values, names: [gene, other as string], max: [a.max, b.max] };
        })
      : map(first.value, (a) => ({
          kind: "numbers", title: gene, unit: "log-normalised", values: a.values, min: 0, max: a.max, ramp: "zero",
          said: `${a.expressing.toLocaleString("en")} of ${(facts.value?.cells ?? 0).toLocaleString("en")} cells express it`,
        }));
}

/** Follows a choice of colouring; the colours change with cell sets and settings. */
export function paintOf(colour: Colouring): ReadonlySignal<Loaded<Paint>> {
  switch (colour.by) {
    case "class":
      return computed(() => classPaint(colour.key));
    case "gene":
      return computed(genePaint(colour.gene, colour.with));
    case "number": {
      const column = numberColumn(colour.task);
      return computed(() => map(column.value, (value) => numbersPaint(value, colourTitle(colour))));
    }
    case "score": {
      const found = view.value.geneSets.find((item) => item.name === colour.name);
      if (!found) return computed(() => ({ state: "failed", code: "", message: `There is no gene set “${colour.name}” here.` }));
      const column = scoreOfGenes(found);
      return computed(() => map(column.value, (value) => numbersPaint(value, found.name)));
    }
    case "column": {
      const column = cellColumn(colour.name);
      return computed(() => map(column.value, (value) => columnPaint(colour.name, value)));
    }
    case "pseudotime":
      return computed(() =>
        pseudotime.value
          ? { state: "ready", value: { ...numbersPaint(pseudotime.value, "Pseudotime"), ramp: "even" } }
          : LOADING,
      );
    case "plain":
      return computed(() => ({ state: "ready", value: { kind: "plain", title: "nothing" } }));
  }
}
