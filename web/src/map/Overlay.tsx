// What lies over the points: names of groups, outlines, the cell under the pointer, the trajectory.
import type { ReadonlySignal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import type { Points } from "../data/points";
import { hoveredCell, selection } from "../state/selection";
import { view } from "../state/view";
import { TrajectoryLines } from "../analyses/TrajectoryLines";
import type { MapSource } from "../data/points";
import { toScreen, type Camera, type Size } from "./camera";
import type { Corner } from "./lasso";
import { labelsApart, placeLabels } from "./labels";
import type { Paint } from "./paint";

interface Props {
  readonly mapId: number;
  readonly source: MapSource;
  readonly camera: Camera;
  readonly size: Size;
  readonly points: Points;
  readonly paint: Paint;
  readonly drawing: ReadonlySignal<readonly Corner[] | null>;
  /** Where the keyboard is on the map. */
  readonly mark: ReadonlySignal<Corner | null>;
}

function path(corners: readonly Corner[], camera: Camera, size: Size): string {
  return `M${corners.map(([x, y]) => toScreen(camera, size, x, y).map((v) => v.toFixed(1)).join(",")).join("L")}Z`;
}

function Drawn({ mapId, camera, size, drawing }: Pick<Props, "mapId" | "camera" | "size" | "drawing">) {
  const now = drawing.value;
  const kept = selection.value?.outline;
  const corners = now ?? (kept?.map === mapId ? kept.points : null);
  return corners && corners.length > 1 ? <path class="outline" d={path(corners, camera, size)} /> : null;
}

function Hovered({ camera, size, points }: Pick<Props, "camera" | "size" | "points">) {
  const cell = hoveredCell.value;
  if (cell === null || Number.isNaN(points.x[cell])) return null;
  const [x, y] = toScreen(camera, size, points.x[cell], points.y[cell]);
  return <circle class="hovered" cx={x} cy={y} r={7} />;
}

const ARM_PX = 9;

function Mark({ camera, size, mark }: Pick<Props, "camera" | "size" | "mark">) {
  if (!mark.value) return null;
  const [x, y] = toScreen(camera, size, ...mark.value);
  return <path class="mark" d={`M${x - ARM_PX} ${y}h${2 * ARM_PX}M${x} ${y - ARM_PX}v${2 * ARM_PX}`} />;
}

export function Overlay(props: Props) {
  const { camera, size, points, paint } = props;
  const { labels, hidden } = view.value;
  const places = useMemo(() => (paint.kind === "groups" ? placeLabels(paint, points) : []), [paint, points]);
  const shown = labels ? labelsApart(places.filter((label) => !hidden.includes(label.key)), (x, y) => toScreen(camera, size, x, y)) : [];
  return (
    <svg class="overlay" width={size.width} height={size.height} aria-hidden="true">
      <TrajectoryLines source={props.source} camera={camera} size={size} />
      {shown.map((label) => <text key={label.key} class="label" x={label.x} y={label.y} text-anchor="middle">{label.text}</text>)}
      <Drawn {...props} />
      <Hovered {...props} />
      <Mark {...props} />
    </svg>
  );
}
