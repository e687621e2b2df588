// The selected cells, and what the pointer is over. None of it is saved.
import { computed, signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { countOf, keyOf, type Mask } from "../data/bitmap";
import { say } from "../ui/notes";
import { makeSet } from "../sets/edit";
import { classes, OWN_CLASS } from "../sets/model";
import { REST, update, view, type Side } from "./view";

export interface Selection {
  readonly mask: Mask;
  /** The outline in the map's coordinates, and the map that it was drawn on; null where it was not drawn. */
  readonly outline: { readonly map: number; readonly points: readonly (readonly [number, number])[] } | null;
}

export const selection = signal<Selection | null>(null);
export const selectedCount = computed(() => (selection.value ? countOf(selection.value.mask) : 0));

/** Cell under the pointer. */
export const hoveredCell = signal<number | null>(null);
/** Set under the pointer in a list or a legend: every map highlights it. */
export const hoveredSet = signal<string | null>(null);
/** Gene under the pointer in table or volcano. */
export const hoveredGene = signal<string | null>(null);

let place = "";
let moved = false;
window.addEventListener("pointermove", ({ clientX, clientY }) => {
  const now = `${clientX} ${clientY}`;
  moved = now !== place;
  place = now;
}, { capture: true });

/**
 * Highlights a set while the pointer is over it, and ends that when the pointer leaves or the row goes. A row that moves
 * under a resting pointer does not count: browsers report it as a move to the same place.
 */
export function useHoveredSet(key: string) {
  const leave = () => {
    if (hoveredSet.peek() === key) hoveredSet.value = null;
  };
  useEffect(() => leave, [key]);
  return {
    onPointerMove: () => moved && (hoveredSet.value = key), onPointerLeave: leave,
    // the keyboard points by its focus
    onFocusIn: (event: FocusEvent) => (event.target as Element).matches(":focus-visible") && (hoveredSet.value = key), onFocusOut: leave,
  };
}

export function select(mask: Mask | null, outline: Selection["outline"] = null): void {
  selection.value = mask && countOf(mask) ? { mask, outline } : null;
}

/** Makes a side of the comparison from the selection; null, with a sentence, where nothing is selected. */
export function sideFromSelection(): Side | null {
  const now = selection.value;
  if (!now) {
    say("Nothing is selected. Draw around cells on the map (L), or click a cell set.", "bad");
    return null;
  }
  return { key: keyOf(now.mask), name: "selection" };
}

export function assign(which: "a" | "b", side: Side | null): void {
  if (!side) return;
  if (which === "a") update({ a: side, right: "compare" });
  else update({ b: side, right: "compare" });
}

export function swapSides(): void {
  const { a, b } = view.value;
  if (a && b.key !== REST.key) update({ a: b, b: a });
}

let made = 0;

export async function saveSelection(name?: string): Promise<string | null> {
  const now = selection.value;
  if (!now) {
    say("Nothing is selected. Draw around cells on the map (L) first.", "bad");
    return null;
  }
  const taken = new Set(classes.value.flatMap((item) => item.children.map((child) => child.name)));
  do made += 1;
  while (taken.has(`Selection ${made}`));
  const title = name ?? `Selection ${made}`;
  const key = await makeSet(title, now.mask);
  if (key) {
    update({ left: "sets", open: [...new Set([...view.value.open, OWN_CLASS])] });
    say(`${title}: ${selectedCount.value.toLocaleString("en")} cells`);
  }
  return key;
}
