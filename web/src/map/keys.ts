// What the keyboard does on a map: a mark that arrows move, outlines and rectangles between places of it, zoom.
import type { Signal } from "@preact/signals";
import { hoveredCell, select, selection } from "../state/selection";
import { view } from "../state/view";
import { moved, toMap, toScreen, zoomed } from "./camera";
import type { Hands } from "./gestures";
import { nearest } from "./grid";
import { combined, combineOf, enclosed, rectangle, type Corner } from "./lasso";
import type { Scene } from "./scene";

const STEP_PX = 12;
const LEAP_PX = 60;
const NEAR_PX = 12;
const ZOOM = 1.25;
const WAYS: Readonly<Record<string, Corner>> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
export const SAID =
  "Arrows move a mark (Shift: further). With the lasso, Enter sets a corner there, Enter again closes the outline, Backspace takes a corner back; " +
  "with the rectangle, Enter begins and ends it. Shift adds, Alt takes away. Plus and minus zoom.";

/**
 * Follows the keyboard while the map has the focus.
 *
 * @param mark where the mark stands, in the map's coordinates; null while there is none
 */
export function handleKeys(surface: HTMLElement, scene: Scene, hands: Hands, mark: Signal<Corner | null>): () => void {
  const { camera, drawing, points } = hands;
  const ending = new AbortController();
  const { signal } = ending;
  /** The corners that were set; the rectangle has one, until it ends. */
  let corners: readonly Corner[] = [];
  const boxed = () => view.value.tool !== "lasso";

  const draw = (now: readonly Corner[]) => {
    corners = now;
    const [first] = corners;
    drawing.value = first && mark.value ? (boxed() ? rectangle(first, mark.value) : [...corners, mark.value]) : null;
  };
  const leave = () => {
    if (corners.length) draw([]);
    mark.value = null;
  };
  const at = (): [number, number] => {
    const { width, height } = scene.size;
    return mark.value && camera.value ? toScreen(camera.value, scene.size, ...mark.value) : [width / 2, height / 2];
  };

  function go([x, y]: Corner, far: boolean): void {
    if (!camera.value) return;
    const step = far ? LEAP_PX : STEP_PX;
    if (view.value.tool === "pan" && !corners.length) return void (camera.value = moved(camera.value, -x * step, -y * step));
    const { width, height } = scene.size;
    const [left, top] = at();
    mark.value = toMap(camera.value, scene.size, Math.min(width, Math.max(0, left + x * step)), Math.min(height, Math.max(0, top + y * step)));
    if (corners.length) draw(corners);
    const now = points();
    hoveredCell.value = now && nearest(now, mark.value, NEAR_PX / camera.value.zoom, (cell) => scene.isShown(cell));
  }

  function press(event: KeyboardEvent): void {
    const now = points();
    if (!now || !camera.value) return;
    mark.value ??= toMap(camera.value, scene.size, ...at());
    const last = corners[corners.length - 1];
    const still = last && last[0] === mark.value[0] && last[1] === mark.value[1];
    if (!last || (!boxed() && !still)) return draw([...corners, mark.value]);
    const outline = boxed() ? rectangle(last, mark.value) : corners;
    if (still && corners.length === 1) return draw([]), hands.clicked(mark.value);
    // two corners enclose nothing yet
    if (outline.length < 3) return;
    draw([]);
    const how = combineOf(event);
    select(combined(selection.value?.mask ?? null, enclosed(now, outline, (cell) => scene.isShown(cell)), how), how === "replace" ? { map: hands.mapId, points: outline } : null);
  }

  surface.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey) return;
    const way = WAYS[event.key];
    if (way) go(way, event.shiftKey);
    else if (event.key === "Enter" || event.key === " ") press(event);
    else if ("+=-".includes(event.key) && camera.value) camera.value = zoomed(camera.value, scene.size, at(), event.key === "-" ? 1 / ZOOM : ZOOM, scene.least());
    else if (event.key === "Backspace" && corners.length) draw(corners.slice(0, -1));
    else if (event.key === "Escape" && mark.value) leave();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }, { signal });
  surface.addEventListener("blur", leave, { signal });
  surface.addEventListener("pointerdown", leave, { signal });
  return () => ending.abort();
}
