// Facts about the cell under the pointer.
import type { Points } from "../data/points";
import { barcodeOf } from "../data/barcodes";
import { geneValues } from "../data/genes";
import { classes, groupsOf } from "../sets/model";
import { hoveredCell } from "../state/selection";
import { view, type MapState } from "../state/view";
import { toScreen, type Camera, type Size } from "./camera";
import { shortened } from "./labels";
import type { Paint } from "./paint";

const WIDTH = 230;

function setsOf(cell: number): string[] {
  return classes.value.flatMap((item) => {
    const code = groupsOf(item).codes[cell];
    return code >= 0 ? [`${shortened(item.name, 24)}: ${shortened(item.children[code].name, 40)}`] : [];
  });
}

function valueOf(paint: Paint, cell: number): string | null {
  if (paint.kind === "numbers") return Number.isNaN(paint.values[cell]) ? null : `${paint.title} ${paint.values[cell].toPrecision(3)}`;
  if (paint.kind === "blend") return `${paint.names[0]} ${paint.first[cell].toFixed(2)} · ${paint.names[1]} ${paint.second[cell].toFixed(2)}`;
  return null;
}

/** The cell's values on the other maps. */
function elsewhere(own: MapState, cell: number): string[] {
  return view.value.maps.flatMap((map) => {
    if (map.id === own.id || map.colour.by !== "gene") return [];
    const values = geneValues(map.colour.gene).value;
    return values.state === "ready" ? [`${map.colour.gene} ${values.value.values[cell].toFixed(2)}`] : [];
  });
}

interface Props {
  readonly map: MapState;
  readonly camera: Camera;
  readonly size: Size;
  readonly points: Points;
  readonly paint: Paint | null;
}

export function Tip({ map, camera, size, points, paint }: Props) {
  const cell = hoveredCell.value;
  if (cell === null || !paint || Number.isNaN(points.x[cell])) return null;
  const [x, y] = toScreen(camera, size, points.x[cell], points.y[cell]);
  const left = x + 14 + WIDTH > size.width ? x - 14 - WIDTH : x + 14;
  const place = { left: `${Math.max(4, left)}px`, top: `${Math.min(y + 12, size.height - 110)}px` };
  const value = valueOf(paint, cell);
  return (
    <div class="pill tip" style={place} role="status">
      <b class="gene">{barcodeOf(cell) ?? `Cell ${cell}`}</b>
      {[...(value ? [value] : []), ...elsewhere(map, cell), ...setsOf(cell).slice(0, 6)].map((line) => <span key={line}>{line}</span>)}
    </div>
  );
}
