// Where the cells lie on a map.
import { floatsOf, type Columns } from "../wire/columns";
import { askColumns } from "../wire/door";
import { fetchPlaces } from "./tissues";
import { Kept, type Loaded } from "./loaded";
import type { ReadonlySignal } from "@preact/signals";

export type MapSource =
  | { kind: "saved"; name: string }
  | { kind: "umap"; minimumDistance: number; distanceMetric: string }
  | { kind: "tsne"; perplexity: number; learningRate: number }
  | { kind: "tissue"; image: number }
  | SubsetSource;

/** A map of some cells alone: of principal components that the file has, or of their own. */
export interface SubsetSource {
  readonly kind: "subset";
  readonly type: "umap" | "tsne";
  readonly components: "saved" | "own";
  /** Key of a cell set, or of a selection. */
  readonly cells: string;
  readonly name: string;
}

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
    case "subset":
      return `${source.type === "umap" ? "UMAP" : "t-SNE"} of ${source.name}`;
  }
}

/** Points of a tissue, whose images count downwards. */
function pointsOf(raw: readonly (readonly number[] | null)[]): Points {
  const x = new Float32Array(raw.length).fill(NaN);
  const y = new Float32Array(raw.length).fill(NaN);
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
    y[i] = -py;
  }
  return pointsAt(x, y);
}

/** Points whose coordinates are there already, by cell id; NaN where a cell has no place. */
function pointsAt(x: Float32Array, y: Float32Array): Points {
  const bounds = { left: Infinity, right: -Infinity, bottom: Infinity, top: -Infinity };
  const placed = new Int32Array(x.length);
  let count = 0;
  for (let i = 0; i < x.length; i++) {
    if (!Number.isFinite(x[i]) || !Number.isFinite(y[i])) continue;
    placed[count++] = i;
    if (x[i] < bounds.left) bounds.left = x[i];
    if (x[i] > bounds.right) bounds.right = x[i];
    if (y[i] < bounds.bottom) bounds.bottom = y[i];
    if (y[i] > bounds.top) bounds.top = y[i];
  }
  if (!count) Object.assign(bounds, { left: -1, right: 1, bottom: -1, top: 1 });
  return { x, y, placed: placed.slice(0, count), bounds };
}

function askPlaces(source: Exclude<MapSource, { kind: "tissue" }>): Promise<Columns<unknown>> {
  const label = `${sourceName(source)} map`;
  if (source.kind === "saved") return askColumns("GetEmbedding", { type: source.name, useSaved: true }, label);
  if (source.kind === "subset") return askColumns("GetSubsetEmbedding", { cellSet: source.cells, type: source.type, components: source.components }, label);
  const { kind, ...config } = source;
  return askColumns("GetEmbedding", { type: kind, useSaved: false, config }, label);
}

async function fetchPoints(source: MapSource): Promise<Points> {
  if (source.kind === "tissue") return pointsOf(await fetchPlaces(source.image));
  const { columns } = await askPlaces(source);
  const [x, y] = ["x", "y"].map((name) => columns.get(name));
  if (!x || !y) throw new Error("The map has no coordinates.");
  return pointsAt(floatsOf(x), floatsOf(y));
}

export function mapPoints(source: MapSource): ReadonlySignal<Loaded<Points>> {
  return kept.get(JSON.stringify(source), () => fetchPoints(source));
}
