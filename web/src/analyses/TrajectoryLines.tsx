// The trajectory's graph over the map that it was learned on.
import type { MapSource } from "../data/points";
import { toScreen, type Camera, type Size } from "../map/camera";
import { roots, trajectory } from "./trajectory";

export function TrajectoryLines({ source, camera, size }: { source: MapSource; camera: Camera; size: Size }) {
  const now = trajectory.value;
  if (!now || JSON.stringify(now.source) !== JSON.stringify(source)) return null;
  const { x, y, connectedNodes } = now.graph;
  const at = (i: number) => toScreen(camera, size, x[i], y[i]).map((value) => value.toFixed(1)).join(" ");
  const lines = connectedNodes.map((others, i) => others.map((j) => `M${at(i)}L${at(j)}`).join("")).join("");
  const nodes = x.map((_, i) => `M${at(i)}h0`).join("");
  return (
    <g class="trajectory">
      <path class="under" d={lines} />
      <path class="line" d={lines} />
      <path class="nodes" d={nodes} />
      <path class="roots" d={roots.value.map((i) => `M${at(i)}h0`).join("")} />
    </g>
  );
}
