// Marker genes of the groups in single cells, sampled evenly; each row is scaled to its own 95th percentile.
import { useMemo } from "preact/hooks";
import { Kept } from "../data/loaded";
import { shortened } from "../map/labels";
import { rampOf, steps } from "../map/palette";
import { dark } from "../state/theme";
import { Failure, Waiting } from "../ui/States";
import { ask, DoorError } from "../wire/door";
import { Figure } from "./Figure";
import type { PlotGroup } from "./groups";

const LEFT = 74;
/** What fits into it. */
const MAX_LETTERS = 10;
const TOP = 14;
const MAX_CELLS = 600;

interface Made {
  readonly genes: readonly string[];
  readonly cells: readonly number[];
  /** Position of each group's first cell. */
  readonly begins: readonly number[];
  readonly values: Float32Array;
  readonly caps: readonly (number | null)[];
}

const kept = new Kept<Made>(8);

async function make(groupBy: string, genes: readonly string[], groups: readonly PlotGroup[]): Promise<Made> {
  const each = Math.max(4, Math.floor(MAX_CELLS / groups.length));
  const cells: number[] = [];
  const begins = groups.map((group) => {
    const begin = cells.length;
    const every = Math.max(1, group.cells.length / each);
    for (let i = 0; i < group.cells.length; i += every) cells.push(group.cells[Math.floor(i)]);
    return begin;
  });
  const count = Math.max(2, Math.floor(50 / groups.length));
  const wanted = genes.length ? [...genes] : (await ask("MarkerHeatmap", { nGenes: Math.min(5, count), selectedCellSet: groupBy }, "Marker genes")).orderedGeneNames;
  if (!wanted.length) throw new DoorError("", "No gene marks these groups. Add genes to see them.");
  const got = await ask("GeneExpression", { genes: wanted, downsampleSettings: { cellIds: cells } }, "Heatmap");
  const { values, index, ptr } = got.rawExpression;
  const rows = wanted.filter((gene) => got.orderedGeneNames.includes(gene));
  const out = new Float32Array(rows.length * cells.length);
  rows.forEach((gene, row) => {
    const column = got.orderedGeneNames.indexOf(gene);
    for (let i = ptr[column]; i < ptr[column + 1]; i++) out[row * cells.length + index[i]] = values[i] ?? 0;
  });
  return { genes: rows, cells, begins, values: out, caps: rows.map((gene) => got.stats.truncatedMax[got.orderedGeneNames.indexOf(gene)]) };
}

function imageOf(made: Made, ramp: readonly string[]): string {
  const canvas = document.createElement("canvas");
  const { genes, cells, values, caps } = made;
  canvas.width = Math.max(1, cells.length);
  canvas.height = Math.max(1, genes.length);
  const context = canvas.getContext("2d") as CanvasRenderingContext2D;
  const image = context.createImageData(canvas.width, canvas.height);
  const colors = steps(ramp);
  for (let row = 0; row < genes.length; row++) {
    for (let k = 0; k < cells.length; k++) {
      const at = row * cells.length + k;
      const level = Math.min(255, Math.round((values[at] / (caps[row] || 1)) * 255));
      image.data.set([colors[level * 3], colors[level * 3 + 1], colors[level * 3 + 2], 255], at * 4);
    }
  }
  context.putImageData(image, 0, 0);
  return canvas.toDataURL("image/png");
}

interface Props {
  readonly groupBy: string;
  readonly groupName: string;
  readonly groups: readonly PlotGroup[];
  /** Empty takes the marker genes of the groups. */
  readonly genes: readonly string[];
  readonly version: string;
}

export function Heatmap({ groupBy, groupName, groups, genes, version }: Props) {
  const key = JSON.stringify([groupBy, genes, version, groups.map((group) => group.key)]);
  const result = useMemo(() => kept.get(key, () => make(groupBy, genes, groups)), [key]).value;
  if (result.state === "loading") return <Waiting text="Finding marker genes" />;
  if (result.state === "failed") return <Failure message={result.message} small />;
  const made = result.value;
  const row = Math.max(11, Math.min(16, 420 / Math.max(1, made.genes.length)));
  const height = TOP + row * made.genes.length + 8;
  const table = () => {
    const place = made.cells.map((_, k) => groups[made.begins.filter((begin) => begin <= k).length - 1].name);
    const columns: Record<string, ArrayLike<string | number>> = { cell_id: made.cells, group: place };
    made.genes.forEach((gene, i) => (columns[gene] = made.values.subarray(i * made.cells.length, (i + 1) * made.cells.length)));
    return columns;
  };
  return (
    <Figure title={genes.length ? `Genes in ${groupName}` : `Markers of ${groupName}`} label={`Heatmap of ${made.genes.length} ${genes.length ? "genes" : "marker genes"} in ${made.cells.length} cells`} height={height} table={table}>
      {(width) => {
        const wide = width - LEFT;
        const x = (k: number) => LEFT + (k / Math.max(1, made.cells.length)) * wide;
        return (
          <>
            {groups.map((group, i) => (
              <rect key={group.key} x={x(made.begins[i])} width={Math.max(0, x(made.begins[i + 1] ?? made.cells.length) - x(made.begins[i]) - 1)} y={2} height={8} fill={group.color}>
                <title>{group.name}</title>
              </rect>
            ))}
            <image href={imageOf(made, rampOf("zero", dark.value))} x={LEFT} y={TOP} width={wide} height={row * made.genes.length} preserveAspectRatio="none" class="pixels" />
            {made.genes.map((gene, i) => <text key={gene} class="tick gene" x={LEFT - 5} y={TOP + row * (i + 0.5) + 3} text-anchor="end">{shortened(gene, MAX_LETTERS)}</text>)}
          </>
        );
      }}
    </Figure>
  );
}
