// A map as a file: points as vectors where they are few, as an image under vector text where they are many.
import { fileName, paper, saveSvgText } from "../charts/save";
import { mapPoints, sourceName } from "../data/points";
import { dataUrlOf, tissuePixels } from "../data/tissues";
import { facts } from "../wire/door";
import { failureOf } from "../data/loaded";
import { say } from "../ui/notes";
import type { MapState } from "../state/view";
import { toScreen } from "./camera";
import { colourTitle, paintOf, type Paint } from "./paint";
import { rampOf } from "./palette";
import { labelsApart, placeLabels } from "./labels";
import { cameraOf, type Scene } from "./scene";
import { sceneOf } from "./scenes";
import { dark } from "../state/theme";
import { view } from "../state/view";

const MAX_VECTORS = 30_000;

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (found) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[found] as string);
}

function css(color: number): string {
  return `#${[color & 255, (color >> 8) & 255, (color >> 16) & 255].map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}

/** Points of one colour are one path of dots: small files that every program opens. */
function vectors(scene: Scene, map: MapState): string {
  const points = mapPoints(map.source).value;
  const camera = cameraOf(map.source).value;
  if (points.state !== "ready" || !camera) return "";
  const byColour = new Map<number, string[]>();
  for (const cell of points.value.placed) {
    if (!scene.isShown(cell)) continue;
    const [x, y] = toScreen(camera, scene.size, points.value.x[cell], points.value.y[cell]);
    const color = scene.colourAt(cell);
    const own = byColour.get(color) ?? [];
    byColour.set(color, own);
    own.push(`M${x.toFixed(1)} ${y.toFixed(1)}h0`);
  }
  const width = scene.diameter().toFixed(1);
  return [...byColour]
    .map(([color, parts]) => `<path d="${parts.join("")}" stroke="${css(color)}" stroke-opacity="${((color >>> 24) / 255).toFixed(2)}"/>`)
    .join("")
    .replace(/^/, `<g fill="none" stroke-width="${width}" stroke-linecap="round">`)
    .concat("</g>");
}

function image(scene: Scene, canvas: HTMLCanvasElement): string {
  scene.drawNow();
  return `<image width="${scene.size.width}" height="${scene.size.height}" href="${canvas.toDataURL("image/png")}"/>`;
}

/** The image under the cells of a tissue, where the map shows one. */
function tissue(scene: Scene, map: MapState): string {
  const pixels = map.source.kind === "tissue" ? tissuePixels(map.source.image)?.value : null;
  const camera = cameraOf(map.source).value;
  if (pixels?.state !== "ready" || !camera) return "";
  const [x, y] = toScreen(camera, scene.size, 0, 0);
  const { naturalWidth, naturalHeight } = pixels.value;
  const [width, height] = [naturalWidth * camera.zoom, naturalHeight * camera.zoom];
  return `<image x="${x.toFixed(1)}" y="${y.toFixed(1)}" width="${width.toFixed(1)}" height="${height.toFixed(1)}" opacity="${view.value.tissueOpacity}" href="${dataUrlOf(pixels.value)}"/>`;
}

function names(map: MapState, paint: Paint, scene: Scene): string {
  const points = mapPoints(map.source).value;
  const camera = cameraOf(map.source).value;
  if (paint.kind !== "groups" || points.state !== "ready" || !camera || !view.value.labels) return "";
  const background = paper();
  const shown = placeLabels(paint, points.value).filter((label) => !view.value.hidden.includes(label.key));
  return labelsApart(shown, (x, y) => toScreen(camera, scene.size, x, y))
    .map(({ x, y, text }) => {
      return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="middle" font-weight="600" stroke="${background}" stroke-width="3.5" paint-order="stroke">${escaped(text)}</text>`;
    })
    .join("");
}

function legend(paint: Paint, height: number): string {
  if (paint.kind === "groups") {
    return paint.groups
      .filter((group) => !view.value.hidden.includes(group.key))
      .map((group, i, all) => {
        const y = height - 16 - (all.length - 1 - i) * 18;
        return `<circle cx="18" cy="${y - 4}" r="5" fill="${escaped(group.color)}"/><text x="30" y="${y}">${escaped(group.name)}  ${group.count.toLocaleString("en")}</text>`;
      })
      .join("");
  }
  if (paint.kind !== "numbers") return "";
  const stops = rampOf(paint.ramp, dark.value).map((color, i, all) => `<stop offset="${i / (all.length - 1)}" stop-color="${color}"/>`);
  return `<defs><linearGradient id="ramp">${stops.join("")}</linearGradient></defs><text x="12" y="${height - 42}" font-weight="600">${escaped(paint.title)}</text><rect x="12" y="${height - 36}" width="160" height="8" fill="url(#ramp)"/><text x="12" y="${height - 14}">${paint.min.toPrecision(3)}</text><text x="172" y="${height - 14}" text-anchor="end">${paint.max.toPrecision(3)}</text>`;
}

export function mapSvg(map: MapState, scene: Scene, canvas: HTMLCanvasElement): string {
  const paint = paintOf(map.colour).value;
  if (paint.state !== "ready") return "";
  const { width, height } = scene.size;
  const points = mapPoints(map.source).value;
  const few = points.state === "ready" && points.value.placed.length <= MAX_VECTORS;
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12" fill="${ink}">`,
    `<rect width="100%" height="100%" fill="${paper()}"/>`,
    few ? `${tissue(scene, map)}${vectors(scene, map)}` : image(scene, canvas),
    names(map, paint.value, scene),
    legend(paint.value, height),
    "</svg>",
  ].join("");
}

export async function saveMap(map: MapState, kind: "png" | "svg"): Promise<void> {
  const scene = sceneOf.get(map.id);
  const canvas = document.querySelector<HTMLCanvasElement>(`canvas[data-map="${map.id}"]`);
  if (!scene || !canvas) return;
  const name = fileName(facts.value?.experimentId ?? "", sourceName(map.source), "by", colourTitle(map.colour));
  try {
    await saveSvgText(name, mapSvg(map, scene, canvas), kind, scene.size.width, scene.size.height);
  } catch (error) {
    say(failureOf(error).message, "bad");
  }
}
