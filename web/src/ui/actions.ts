// Everything that has a name or a key: the one list behind keyboard, search and help.
import { compare } from "../compare/compare";
import { redo, undo } from "../sets/history";
import { cameraOf } from "../map/scene";
import { fit } from "../map/camera";
import { sceneOf } from "../map/scenes";
import { mapPoints } from "../data/points";
import { assign, hoveredSet, saveSelection, select, sideFromSelection, swapSides, selection } from "../state/selection";
import { saveSession } from "../state/session";
import { switchTheme } from "../state/theme";
import { addMap, gate, REST, update, view, type RightTab } from "../state/view";
import { findSet } from "../sets/model";
import { geneWanted, keysShown, palette, tourStep } from "./palette-state";

export interface Action {
  readonly name: string;
  /** The key's name: a letter, "shift+u", "?" or "Escape". */
  readonly key?: string;
  readonly run: () => unknown;
}

/** Takes the set under the pointer, else the selected cells. */
function take(which: "a" | "b"): void {
  const found = hoveredSet.value ? findSet(hoveredSet.value) : undefined;
  assign(which, found ? { key: found.set.key, name: found.set.name } : sideFromSelection());
}

function refit(): void {
  for (const map of view.value.maps) {
    const points = mapPoints(map.source).value;
    const scene = sceneOf.get(map.id);
    if (points.state === "ready" && scene) cameraOf(map.source).value = fit(points.value, scene.size);
  }
}

function invert(): void {
  const map = view.value.maps[0];
  const points = map && mapPoints(map.source).value;
  if (points?.state !== "ready") return;
  const mask = new Uint8Array(points.value.x.length);
  for (const cell of points.value.placed) mask[cell] = selection.value?.mask[cell] ? 0 : 1;
  select(mask);
}

function focusGene(): void {
  update({ left: "genes", leftFolded: false });
  geneWanted.value = true;
}

const panel = (right: RightTab) => () => {
  update({ right, rightFolded: false });
  // what was asked for by name has the focus, once it is there
  setTimeout(() => document.querySelector<HTMLElement>("aside.right [role=tab][aria-selected=true]")?.focus());
};

export const ACTIONS: readonly Action[] = [
  { name: "Make A of the set under the pointer or focus, or of the selection", key: "a", run: () => take("a") },
  { name: "Make B of the set under the pointer or focus, or of the selection", key: "b", run: () => take("b") },
  { name: "Compare A with B", key: "c", run: () => (update({ right: "compare" }), compare()) },
  { name: "Lasso", key: "l", run: () => update({ tool: "lasso" }) },
  { name: "Rectangle", key: "r", run: () => update({ tool: "rectangle" }) },
  { name: "Gate by two genes, one against the other", key: "t", run: gate },
  { name: "Move the map", key: "p", run: () => update({ tool: "pan" }) },
  { name: "Show all cells", key: "f", run: refit },
  { name: "Find a gene", key: "g", run: focusGene },
  { name: "Make a set of the selected cells", key: "n", run: () => saveSelection() },
  { name: "Select the other cells", key: "i", run: invert },
  { name: "Select nothing", key: "Escape", run: () => select(null) },
  { name: "Undo", key: "u", run: undo },
  { name: "Redo", key: "shift+u", run: redo },
  { name: "Show all keys", key: "?", run: () => (keysShown.value = true) },
  { name: "Search genes, sets, columns, actions", key: "ctrl+k", run: () => (palette.value = "") },
  { name: "B is every other cell", run: () => update({ b: REST }) },
  { name: "Swap A and B", run: swapSides },
  { name: "Add a map beside this one", run: () => addMap() },
  { name: "Compare all clusters", run: () => (update({ mode: "clusters", right: "compare" }), compare()) },
  { name: "Compare", run: panel("compare") },
  { name: "Plots: violin, dot plot, heatmap, histogram, composition", run: panel("plots") },
  { name: "Clusters", run: panel("clusters") },
  { name: "Cell types, cell cycle", run: panel("types") },
  { name: "Trajectory and pseudotime", run: panel("trajectory") },
  { name: "Tissue", run: panel("tissue") },
  { name: "Results stored in the file", run: panel("results") },
  { name: "Show all hidden cells", run: () => update({ hidden: [] }) },
  { name: "Save session", run: saveSession },
  { name: "Light or dark", run: switchTheme },
  { name: "Guided tour", run: () => (tourStep.value = 0) },
  { name: "Console of requests", run: () => window.open("./console", "_blank") },
];

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}

export function followKeys(): void {
  window.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      palette.value = palette.value === null ? "" : null;
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || palette.value !== null) return;
    const letter = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const key = event.shiftKey && letter !== "?" ? `shift+${letter}` : letter;
    const action = ACTIONS.find((item) => item.key === key);
    if (!action) return;
    event.preventDefault();
    if (keysShown.value && key === "Escape") keysShown.value = false;
    else void action.run();
  });
}
