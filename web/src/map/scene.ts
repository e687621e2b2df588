// One map's canvas: keeps positions, colours and order on the graphics card up to date.
import { signal, type Signal } from "@preact/signals";
import type { MapSource, Points } from "../data/points";
import { coloursOf, orderOf, placesOf, type Emphasis } from "./brush";
import { clip, fit, pointDiameter, pointOpacity, type Camera, type Size } from "./camera";
import { Scatter } from "./gl";
import type { Paint } from "./paint";
import { channels } from "./palette";

const cameras = new Map<string, Signal<Camera | null>>();
const MANY = 150_000;
const REST_MS = 120;

/** Maps of one source share one camera. */
export function cameraOf(source: MapSource): Signal<Camera | null> {
  const key = JSON.stringify(source);
  const found = cameras.get(key) ?? signal<Camera | null>(null);
  cameras.set(key, found);
  return found;
}

export interface Look {
  /** Opacity of a tissue's image under the points. */
  readonly backdrop: number;
  readonly pointSize: number;
  readonly opacity: number;
  readonly background: string;
}

function same(a: Uint32Array, b: Uint32Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

export class Scene {
  private scatter: Scatter | null = null;
  private points: Points | null = null;
  private paint: Paint | null = null;
  private colours: Uint32Array = new Uint32Array(0);
  private look: Look = { pointSize: 1, opacity: 1, background: "#ffffff", backdrop: 1 };
  private camera: Camera | null = null;
  private pending = 0;
  private moving = 0;
  private behind = "";
  size: Size = { width: 1, height: 1 };

  constructor(private readonly canvas: HTMLCanvasElement) {}

  /** Begins to draw; throws a sentence where the browser cannot. */
  start(): void {
    this.scatter = new Scatter(this.canvas);
  }

  stop(): void {
    cancelAnimationFrame(this.pending);
    clearTimeout(this.moving);
    this.scatter?.dispose();
    this.scatter = null;
  }

  resize(size: Size): void {
    this.size = size;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, Math.round(size.width * ratio));
    this.canvas.height = Math.max(1, Math.round(size.height * ratio));
    this.draw();
  }

  show(points: Points, paint: Paint, emphasis: Emphasis): void {
    if (!this.scatter) return;
    const placed = points !== this.points;
    const colours = coloursOf(paint, points, emphasis);
    // While other colours load, nothing is redrawn.
    if (!placed && paint === this.paint && same(colours, this.colours)) return;
    if (placed) this.scatter.places(placesOf(points));
    if (placed || paint !== this.paint) this.scatter.order(orderOf(paint, points));
    this.points = points;
    this.paint = paint;
    this.colours = colours;
    this.scatter.colours(this.colours);
    this.draw();
  }

  /** Sets the image under the points. */
  backdrop(image: HTMLImageElement | null): void {
    this.scatter?.backdrop(image);
    this.behind = image ? `${image.naturalWidth} x ${image.naturalHeight}` : "";
    this.draw();
  }

  lookFrom(camera: Camera | null, look: Look): void {
    if (camera === this.camera && JSON.stringify(look) === JSON.stringify(this.look)) return;
    const moves = this.camera !== null && camera !== this.camera && (this.points?.placed.length ?? 0) > MANY;
    this.camera = camera;
    this.look = look;
    if (moves) {
      clearTimeout(this.moving);
      this.moving = window.setTimeout(() => {
        this.moving = 0;
        this.draw();
      }, REST_MS);
    }
    this.draw();
  }

  /** Whether a cell is on the map. */
  isShown(cell: number): boolean {
    return cell < this.colours.length && this.colours[cell] >>> 24 > 0;
  }

  colourAt(cell: number): number {
    return this.colours[cell] ?? 0;
  }

  /** The zoom that shows everything. */
  least(): number {
    return this.points ? fit(this.points, this.size).zoom : 1;
  }

  diameter(): number {
    const count = this.points?.placed.length ?? 0;
    return pointDiameter(count, this.camera?.zoom ?? 1, this.least(), this.look.pointSize);
  }

  draw(): void {
    cancelAnimationFrame(this.pending);
    this.pending = requestAnimationFrame(() => this.drawNow());
  }

  /** Draws at once, so that the canvas can be read in the same turn. */
  drawNow(): void {
    const { scatter, points, camera, size, look } = this;
    if (!scatter || !points || !camera) return;
    const [r, g, b] = channels(look.background);
    const ratio = this.canvas.width / size.width;
    scatter.draw({
      ...clip(camera, size),
      size: Math.max(1, this.diameter() * ratio),
      opacity: pointOpacity(points.placed.length, camera.zoom, this.least(), look.opacity),
      background: [r / 255, g / 255, b / 255],
      coarse: this.moving !== 0,
      backdrop: look.backdrop,
    });
    // what is on the canvas, for programs that look at the page
    this.canvas.dataset.backdrop = this.behind;
    this.canvas.dataset.shows = this.paint?.title ?? "";
    this.canvas.dataset.drawn = String(Number(this.canvas.dataset.drawn ?? 0) + 1);
  }
}
