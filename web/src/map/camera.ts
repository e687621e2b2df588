// The view of a map: its centre, and pixels per unit of the map.
import type { Points } from "../data/points";

export interface Camera {
  readonly x: number;
  readonly y: number;
  readonly zoom: number;
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

const MARGIN = 0.12;
const MAX_ZOOM_IN = 400;

const fitted = new WeakSet<Camera>();

/** Whether a camera still shows all points, as `fit` left it. */
export function isFitted(camera: Camera): boolean {
  return fitted.has(camera);
}

/** Shows all points, with a margin. */
export function fit(points: Points, size: Size): Camera {
  const { left, right, bottom, top } = points.bounds;
  const across = Math.max(right - left, 1e-6);
  const up = Math.max(top - bottom, 1e-6);
  const zoom = Math.min(size.width / across, size.height / up) * (1 - 2 * MARGIN);
  const camera = { x: (left + right) / 2, y: (bottom + top) / 2, zoom };
  fitted.add(camera);
  return camera;
}

export function toScreen(camera: Camera, size: Size, x: number, y: number): [number, number] {
  return [size.width / 2 + (x - camera.x) * camera.zoom, size.height / 2 - (y - camera.y) * camera.zoom];
}

export function toMap(camera: Camera, size: Size, x: number, y: number): [number, number] {
  return [camera.x + (x - size.width / 2) / camera.zoom, camera.y - (y - size.height / 2) / camera.zoom];
}

export function moved(camera: Camera, dx: number, dy: number): Camera {
  return { ...camera, x: camera.x - dx / camera.zoom, y: camera.y + dy / camera.zoom };
}

/** Zooms so that what lies under the pointer stays there. */
export function zoomed(camera: Camera, size: Size, at: readonly [number, number], factor: number, least: number): Camera {
  const zoom = Math.min(Math.max(camera.zoom * factor, least / 3), least * MAX_ZOOM_IN);
  const [x, y] = toMap(camera, size, at[0], at[1]);
  return {
    x: x - (at[0] - size.width / 2) / zoom,
    y: y + (at[1] - size.height / 2) / zoom,
    zoom,
  };
}

/** Returns what turns the map's coordinates into clip coordinates. */
export function clip(camera: Camera, size: Size): { scale: [number, number]; shift: [number, number] } {
  const scale: [number, number] = [(2 * camera.zoom) / size.width, (2 * camera.zoom) / size.height];
  return { scale, shift: [-camera.x * scale[0], -camera.y * scale[1]] };
}

/** Diameter of a point in CSS pixels: large where there are few cells, and growing with the zoom. */
export function pointDiameter(count: number, zoom: number, least: number, factor: number): number {
  const base = Math.min(7, Math.max(1.3, 30 / Math.pow(Math.max(count, 1), 0.235)));
  return Math.min(22, base * Math.pow(Math.max(zoom / least, 0.3), 0.4) * factor);
}

export function pointOpacity(count: number, zoom: number, least: number, factor: number): number {
  if (count < 20_000) return Math.min(1, 0.85 * factor);
  // with many cells, the whole map shows density and the zoomed map single cells
  const base = count < 200_000 ? 0.7 : 0.45;
  return Math.min(1, base * Math.pow(Math.max(zoom / least, 1), 0.2) * factor);
}
