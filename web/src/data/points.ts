// Where the cells lie on a map.
import { ask } from "../wire/door";
import { fetchPlaces } from "./tissues";
import { Kept, type Loaded } from "./loaded";
import type { ReadonlySignal } from "@preact/signals";

export type MapSource =
  | { kind: "saved"; name: string }
  | { kind: "umap"; minimumDistance: number; distanceMetric: string }
  | { kind: "tsne"; perplexity: number; learningRate: number }
  | { kind: "tissue"; image: number };

/** Coordinates by cell id; NaN where a cell has no place. */
export interface Points {
  readonly x: Float32Array;
  readonly y: Float32Array;
  /** Ids of the cells that have a place. */
  readonly placed: Int32Array;
  readonly bounds: { left: number; right: number; bottom: number; top: number };
}

const kept = new Kept<Points>(6);

export function sourceName(source: MapSource): string {
  switch (source.kind) {
    case "saved":
      return source.name.length <= 5 ? source.name.toUpperCase().replace("TSNE", "t-SNE") : source.name;
    case "umap":
      return "UMAP";
    case "tsne":
      return "t-SNE";
    case "tissue":
      return "Tissue";
  }
}

export function pointsOf(raw: readonly (readonly number[] | null)[], flip: boolean): Points {
  const x = new Float32Array(raw.length).fill(NaN);
  const y = new Float32Array(raw.length).fill(NaN);
  const placed: number[] = [];
  const bounds = { left: Infinity, right: -Infinity, bottom: Infinity, top: -Infinity };
  for (let i = 0; i < raw.length; i++) {
    const own = raw[i];
    if (!own || own.length < 2 || !Number.isFinite(own[0]) || !Number.isFinite(own[1])) continue;
    let [px, py] = own;
    if (own.length > 2) {
      // a cell whose outline is known lies at the outline's centre
      px = py = 0;
      for (let k = 0; k + 1 < own.length; k += 2) (px += own[k]), (py += own[k + 1]);
      px /= own.length / 2;
      py /= own.length / 2;
    }
    x[i] = px;
    y[i] = flip ? -py : py;
    placed.push(i);
    bounds.left = Math.min(bounds.left, x[i]);
    bounds.right = Math.max(bounds.right, x[i]);
    bounds.bottom = Math.min(bounds.bottom, y[i]);
    bounds.top = Math.max(bounds.top, y[i]);
  }
  if (!placed.length) Object.assign(bounds, { left: -1, right: 1, bottom: -1, top: 1 });
  return { x, y, placed: Int32Array.from(placed), bounds };
}

async function fetchPoints(source: MapSource): Promise<Points> {
  const label = `${sourceName(source)} map`;
  if (source.kind === "saved") {
    return pointsOf(await ask("GetEmbedding", { type: source.name, useSaved: true }, label), false);
  }
  if (source.kind === "tissue") return pointsOf(await fetchPlaces(source.image), true);
  const { kind, ...config } = source;
  return pointsOf(await ask("GetEmbedding", { type: kind, useSaved: false, config }, label), false);
}

export function mapPoints(source: MapSource): ReadonlySignal<Loaded<Points>> {
  return kept.get(JSON.stringify(source), () => fetchPoints(source));
}

export function forgetPoints(source: MapSource): void {
  kept.forget(JSON.stringify(source));
}
