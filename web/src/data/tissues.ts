// Images of tissues: which there are, where cells lie on them, their pixels.
import type { ReadonlySignal } from "@preact/signals";
import { experimentPath, facts, getBlob, getJson } from "../wire/door";
import type { TissueFacts } from "../wire/types";
import { Kept, type Loaded } from "./loaded";

const kept = new Kept<HTMLImageElement>(4);

export function tissues(): readonly TissueFacts[] {
  return facts.value?.tissues ?? [];
}

export function fetchPlaces(image: number): Promise<(number[] | null)[]> {
  return getJson(`${experimentPath()}/tissues/${image}`);
}

async function fetchPixels(image: number): Promise<HTMLImageElement> {
  const made = new Image();
  made.src = URL.createObjectURL(await getBlob(`${experimentPath()}/tissues/${image}/picture`));
  try {
    await made.decode();
  } finally {
    URL.revokeObjectURL(made.src);
  }
  return made;
}

/** The pixels of an image; null where the file holds none. */
export function tissuePixels(image: number): ReadonlySignal<Loaded<HTMLImageElement>> | null {
  return tissues()[image]?.width ? kept.get(String(image), () => fetchPixels(image)) : null;
}

/** The image as text for an SVG, in its own pixels. */
export function dataUrlOf(image: HTMLImageElement): string {
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  (canvas.getContext("2d") as CanvasRenderingContext2D).drawImage(image, 0, 0);
  return canvas.toDataURL("image/png");
}
