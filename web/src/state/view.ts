// The state of the page that can be saved, shared and opened again.
import { signal } from "@preact/signals";
import type { NumberTask } from "../data/numbers";
import type { MapSource } from "../data/points";

export type Colouring =
  | { by: "class"; key: string }
  | { by: "gene"; gene: string; with?: string }
  | { by: "number"; task: NumberTask }
  | { by: "column"; name: string }
  | { by: "score"; name: string }
  | { by: "pseudotime" }
  | { by: "plain" };

export interface MapState {
  readonly id: number;
  readonly source: MapSource;
  readonly colour: Colouring;
}

/** What is compared: a set or class by its key, or a selection by its bitmap. */
export interface Side {
  readonly key: string;
  readonly name: string;
}

/** Every cell that is not in A. */
export const REST: Side = { key: "background", name: "rest" };

export type LeftTab = "sets" | "columns" | "genes" | "scores";
export type RightTab = "compare" | "plots" | "clusters" | "types" | "trajectory" | "tissue" | "results";
export type CompareMode = "cells" | "samples" | "clusters";
export type Tool = "pan" | "lasso" | "rectangle";
export type PlotKind = "violin" | "dots" | "heatmap" | "histogram" | "composition" | "scatter";

export type ScoreMethod = "seurat" | "scanpy" | "mean";

export interface GeneSet {
  readonly name: string;
  readonly genes: readonly string[];
  /** The method of its score; Seurat's by default. */
  readonly method?: ScoreMethod;
}

export interface View {
  readonly maps: readonly MapState[];
  /** The map that a click in a list colours. */
  readonly active: number;
  readonly a: Side | null;
  readonly b: Side;
  readonly left: LeftTab;
  readonly right: RightTab;
  readonly mode: CompareMode;
  readonly tool: Tool;
  /** Keys of the sets that are not shown. */
  readonly hidden: readonly string[];
  /** Keys of the classes whose sets are listed. */
  readonly open: readonly string[];
  /** Factors on the size and opacity that follow from the number of cells. */
  readonly pointSize: number;
  readonly opacity: number;
  /** Opacity of a tissue's image under the points. */
  readonly tissueOpacity: number;
  readonly palette: "own" | "safe";
  readonly labels: boolean;
  readonly plot: PlotKind;
  readonly plotGenes: readonly string[];
  /** Columns of numbers that are plotted like genes. */
  readonly plotColumns: readonly string[];
  /** Names of gene sets whose scores are plotted. */
  readonly plotScores: readonly string[];
  /** Class that plots group by. */
  readonly groupBy: string;
  /** How many groups plots show, the largest; those whose names hold a text, where one is given. */
  readonly mostGroups: number;
  readonly groupsNamed: string;
  readonly geneSets: readonly GeneSet[];
  readonly leftFolded: boolean;
  readonly rightFolded: boolean;
}

/** Max groups that the worker summarises at once. */
export const MAX_GROUPS = 2000;

export const EMPTY_VIEW: View = {
  maps: [],
  active: 0,
  a: null,
  b: REST,
  left: "sets",
  right: "compare",
  mode: "cells",
  tool: "lasso",
  hidden: [],
  open: [],
  pointSize: 1,
  opacity: 1,
  tissueOpacity: 1,
  palette: "own",
  labels: true,
  plot: "violin",
  plotGenes: [],
  plotColumns: [],
  plotScores: [],
  groupBy: "",
  mostGroups: 100,
  groupsNamed: "",
  geneSets: [],
  leftFolded: false,
  rightFolded: false,
};

export const view = signal<View>(EMPTY_VIEW);

export function update(part: Partial<View>): void {
  view.value = { ...view.value, ...part };
}

export function activeMap(): MapState | undefined {
  return view.value.maps.find((item) => item.id === view.value.active) ?? view.value.maps[0];
}

export function updateMap(id: number, part: Partial<Omit<MapState, "id">>): void {
  update({ maps: view.value.maps.map((item) => (item.id === id ? { ...item, ...part } : item)) });
}

/** Colours the map that is in use. */
export function colourBy(colour: Colouring): void {
  const map = activeMap();
  if (map) updateMap(map.id, { colour });
}

export function addMap(source?: MapSource, colour?: Colouring): void {
  const from = activeMap();
  if (!from || view.value.maps.length >= MAX_MAPS) return;
  const id = Math.max(...view.value.maps.map((item) => item.id)) + 1;
  const made: MapState = { id, source: source ?? from.source, colour: colour ?? from.colour };
  update({ maps: [...view.value.maps, made], active: id });
}

/** Shows gene against gene, where a box gates cells. */
export function gate(): void {
  update({ right: "plots", rightFolded: false, plot: "scatter" });
}

export function removeMap(id: number): void {
  const maps = view.value.maps.filter((item) => item.id !== id);
  if (maps.length) update({ maps, active: maps[0].id });
}

export const MAX_MAPS = 4;

export function toggleHidden(key: string): void {
  const { hidden } = view.value;
  update({ hidden: hidden.includes(key) ? hidden.filter((other) => other !== key) : [...hidden, key] });
}

/** Colours a map by a gene: the one that shows a gene already, so that the others keep their groups, else the one in use. */
export function showGene(gene: string): void {
  const { maps } = view.value;
  const other = maps.find((item) => item.colour.by === "gene") ?? activeMap();
  if (other) updateMap(other.id, { colour: { by: "gene", gene } });
}
