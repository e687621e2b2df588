// What the pointer does on a map: move, zoom, draw around cells, look at one.
import type { Signal } from "@preact/signals";
import type { Points } from "../data/points";
import { hoveredCell, select, selection } from "../state/selection";
import { view } from "../state/view";
import { moved, toMap, zoomed, type Camera } from "./camera";
import { nearest } from "./grid";
import { combined, combineOf, enclosed, rectangle, type Corner } from "./lasso";
import type { Scene } from "./scene";

const HOVER_PX = 9;
const STEP_PX = 3;

export interface Hands {
  readonly camera: Signal<Camera | null>;
  /** The outline while it is drawn, in the map's coordinates. */
  readonly drawing: Signal<readonly Corner[] | null>;
  readonly points: () => Points | null;
  readonly mapId: number;
  /** Called for a click that moved nothing. */
  readonly clicked: (at: Corner) => void;
}

export function handle(surface: HTMLElement, scene: Scene, hands: Hands): () => void {
  const { camera, drawing, points } = hands;
  const ending = new AbortController();
  const { signal } = ending;
  let last: [number, number] | null = null;
  let begun: [number, number] | null = null;
  let draws = false;

  const place = (event: MouseEvent): [number, number] => {
    const box = surface.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const onMap = (at: readonly [number, number]): Corner => toMap(camera.value as Camera, scene.size, at[0], at[1]);
  const shown = (cell: number) => scene.isShown(cell);

  surface.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      if (!camera.value) return;
      const factor = Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.0016));
      camera.value = zoomed(camera.value, scene.size, place(event), factor, scene.least());
    },
    { signal, passive: false },
  );

  surface.addEventListener("pointerdown", (event) => {
    if (event.button > 1 || !camera.value) return;
    surface.setPointerCapture(event.pointerId);
    last = begun = place(event);
    draws = event.button === 0 && view.value.tool !== "pan" && !event.ctrlKey && !event.metaKey;
    if (draws) drawing.value = [onMap(last)];
  }, { signal });

  surface.addEventListener("pointermove", (event) => {
    const at = place(event);
    if (!last || !camera.value) {
      const now = points();
      if (now && camera.value) hoveredCell.value = nearest(now, onMap(at), HOVER_PX / camera.value.zoom, shown);
      return;
    }
    hoveredCell.value = null;
    if (!draws) {
      camera.value = moved(camera.value, at[0] - last[0], at[1] - last[1]);
      last = at;
      return;
    }
    if (Math.hypot(at[0] - last[0], at[1] - last[1]) < STEP_PX) return;
    last = at;
    const path = drawing.value ?? [];
    drawing.value = view.value.tool === "rectangle" ? rectangle(onMap(begun as [number, number]), onMap(at)) : [...path, onMap(at)];
  }, { signal });

  const finish = (event: PointerEvent) => {
    const outline = drawing.value;
    const from = begun;
    drawing.value = null;
    last = begun = null;
    if (!from) return;
    const at = place(event);
    if (Math.hypot(at[0] - from[0], at[1] - from[1]) < STEP_PX && (outline?.length ?? 0) < 4) return hands.clicked(onMap(at));
    const now = points();
    if (!draws || !outline || outline.length < 3 || !now) return;
    const how = combineOf(event);
    const mask = combined(selection.value?.mask ?? null, enclosed(now, outline, shown), how);
    select(mask, how === "replace" ? { map: hands.mapId, points: outline } : null);
  };
  surface.addEventListener("pointerup", finish, { signal });
  surface.addEventListener("pointercancel", () => {
    drawing.value = null;
    last = begun = null;
  }, { signal });
  surface.addEventListener("pointerleave", () => (hoveredCell.value = null), { signal });
  return () => ending.abort();
}
