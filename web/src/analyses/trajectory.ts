// The trajectory's graph, its roots, and pseudotime.
import { signal } from "@preact/signals";
import { columnOf, pseudotime } from "../data/numbers";
import type { MapSource } from "../data/points";
import { failureOf } from "../data/loaded";
import type { TrajectoryGraph } from "../wire/types";
import { ask, DoorError } from "../wire/door";
import { colourBy, update, view, updateMap } from "../state/view";

export interface Trajectory {
  readonly source: MapSource;
  readonly cellSets: readonly string[];
  readonly graph: TrajectoryGraph;
}

export const trajectory = signal<Trajectory | null>(null);
export const roots = signal<readonly number[]>([]);
export const trouble = signal("");

/** The embedding's name in trajectory tasks; null for maps that have none. */
function embeddingOf(source: MapSource): { method: string; methodSettings: Record<string, unknown> } | null {
  if (source.kind === "tissue" || source.kind === "subset") return null;
  if (source.kind === "saved") return { method: source.name, methodSettings: {} };
  const { kind, ...methodSettings } = source;
  return { method: kind, methodSettings };
}

function requestOf(source: MapSource, cellSets: readonly string[]) {
  const embedding = embeddingOf(source);
  if (!embedding) throw new DoorError("", "A trajectory is learned on a map of all cells: choose a UMAP or t-SNE in the title of the map.");
  return { embedding, clustering: { method: "louvain", resolution: 0.8 }, cellSets: [...cellSets] };
}

export async function findTrajectory(source: MapSource, cellSets: readonly string[]): Promise<void> {
  trouble.value = "";
  try {
    const graph = await ask("GetTrajectoryAnalysisStartingNodes", requestOf(source, cellSets), "Trajectory");
    trajectory.value = { source, cellSets, graph };
    roots.value = [];
  } catch (error) {
    trouble.value = failureOf(error).message;
  }
}

async function computePseudotime(): Promise<void> {
  const now = trajectory.value;
  if (!now) return;
  trouble.value = "";
  try {
    const body = { ...requestOf(now.source, now.cellSets), rootNodes: [...roots.value] };
    const result = await ask("GetTrajectoryAnalysisPseudoTime", body, "Pseudotime");
    if (trajectory.value !== now) return; // another graph was learned meanwhile, or none is shown
    pseudotime.value = columnOf("pseudotime", result.pseudotime);
    const own = view.value.maps.find((map) => JSON.stringify(map.source) === JSON.stringify(now.source));
    if (own) updateMap(own.id, { colour: { by: "pseudotime" } });
    else colourBy({ by: "pseudotime" });
  } catch (error) {
    if (trajectory.value === now) trouble.value = failureOf(error).message;
  }
}

/** Whether pseudotime is computed now. */
export const timing = signal(false);
let again = false;

/** Computes pseudotime from the roots as they are, and once more where they change meanwhile. */
export async function timeFromRoots(): Promise<void> {
  again = timing.value;
  if (again) return;
  timing.value = true;
  do {
    again = false;
    if (roots.value.length) await computePseudotime();
  } while (again);
  timing.value = false;
}

/** Chooses roots; the map shows at once what they mean. */
export function chooseRoots(nodes: readonly number[]): void {
  roots.value = nodes;
  void timeFromRoots();
}

function toggleRoot(node: number): void {
  chooseRoots(roots.value.includes(node) ? roots.value.filter((other) => other !== node) : [...roots.value, node]);
}

export function forgetTrajectory(): void {
  trajectory.value = null;
  roots.value = [];
}

/** Handles a click on a map: near a node of its trajectory, makes the node a root and returns true. */
export function clickOnMap(source: MapSource, at: readonly [number, number], radius: number): boolean {
  const now = trajectory.value;
  if (!now || view.value.right !== "trajectory" || JSON.stringify(now.source) !== JSON.stringify(source)) return false;
  const { x, y } = now.graph;
  let best = -1;
  let closest = radius * radius;
  for (let i = 0; i < x.length; i++) {
    const distance = (x[i] - at[0]) ** 2 + (y[i] - at[1]) ** 2;
    if (distance <= closest) (closest = distance), (best = i);
  }
  if (best < 0) return false;
  toggleRoot(best);
  update({ right: "trajectory" });
  return true;
}
