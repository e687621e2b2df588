// A short tour the first time.
import { useEffect, useState } from "preact/hooks";
import { tourStep } from "./palette-state";

interface Step {
  readonly at: string;
  readonly title: string;
  readonly text: string;
}

const STEPS: readonly Step[] = [
  { at: ".map canvas", title: "Every dot is a cell", text: "Cells with similar expression lie close together. Turn the wheel to zoom, draw around cells to select them." },
  { at: "aside.left", title: "Lists to colour and select by", text: "Cell sets, numbers, genes and scores. A click on a set selects its cells, a click on a gene colours the map." },
  { at: "aside.right", title: "Analyses", text: "Make A of cells (press A), then compare (press C): all genes, in every cell, in a moment. Then plots, clusters, cell types, trajectories." },
  { at: ".search", title: "Everything has a name", text: "Ctrl K finds genes, sets and actions. A question mark lists the keys." },
];
const KEY = "cellworker-tour-seen";

export function beginTourOnce(): void {
  if (localStorage.getItem(KEY) === null) tourStep.value = 0;
}

function end(): void {
  localStorage.setItem(KEY, "yes");
  tourStep.value = null;
}

export function Tour() {
  const step = tourStep.value;
  const [box, setBox] = useState<DOMRect | null>(null);
  useEffect(() => {
    setBox(step === null ? null : (document.querySelector(STEPS[step].at)?.getBoundingClientRect() ?? null));
  }, [step]);
  if (step === null || !box) return null;
  const { title, text } = STEPS[step];
  const placed = () => {
    const left = box.width > 500 ? box.left + box.width / 2 - 150 : box.left > 600 ? box.left - 316 : box.right + 16;
    const top = Math.min(box.top + (box.height > 300 ? 120 : 44), window.innerHeight - 200);
    return { left: `${Math.max(12, Math.min(left, window.innerWidth - 316))}px`, top: `${Math.max(56, top)}px` };
  };
  return (
    <div class="pill tour" role="dialog" aria-label="Guided tour" style={placed()} onKeyDown={(event) => event.key === "Escape" && end()}>
      <h3>{title}</h3>
      <p>{text}</p>
      <div class="buttons">
        <em>{step + 1} of {STEPS.length}</em>
        <button class="btn" onClick={end}>Skip</button>
        <button class="btn p" ref={(element) => element?.focus()} onClick={() => (step + 1 < STEPS.length ? (tourStep.value = step + 1) : end())}>{step + 1 < STEPS.length ? "Next" : "Begin"}</button>
      </div>
    </div>
  );
}
