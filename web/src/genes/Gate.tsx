// A cell set from thresholds on genes: the cells that pass all of them.
import { useState } from "preact/hooks";
import { knownGene } from "../data/genes";
import { failureOf } from "../data/loaded";
import { changedByWorker } from "../sets/history";
import { OWN_CLASS } from "../sets/model";
import { update, view } from "../state/view";
import { Failure } from "../ui/States";
import { say } from "../ui/notes";
import { ask } from "../wire/door";
import type { GeneThreshold } from "../wire/types";

interface Line {
  readonly gene: string;
  readonly comparisonType: GeneThreshold["comparisonType"];
  readonly value: number;
}

const EMPTY: Line = { gene: "", comparisonType: "greaterThan", value: 0 };

export function Gate() {
  const [lines, setLines] = useState<readonly Line[]>([EMPTY]);
  const [trouble, setTrouble] = useState("");
  const change = (i: number, part: Partial<Line>) => setLines(lines.map((line, k) => (k === i ? { ...line, ...part } : line)));
  const run = async () => {
    setTrouble("");
    const unknown = lines.find((line) => !knownGene(line.gene));
    if (unknown) {
      setTrouble(`The experiment has no gene “${unknown.gene.slice(0, 60)}”.`);
      return;
    }
    const genesConfig = lines.map((line) => ({ geneName: knownGene(line.gene) as string, comparisonType: line.comparisonType, thresholdValue: line.value }));
    try {
      await changedByWorker("make a set from thresholds", () => ask("GetExpressionCellSets", { genesConfig }, "Cells that pass"), true);
      update({ left: "sets", open: [...new Set([...view.value.open, OWN_CLASS])] });
      say("The cells that pass are a new set.");
    } catch (error) {
      setTrouble(failureOf(error).message);
    }
  };
  return (
    <details class="more-part">
      <summary>Cells by thresholds on genes</summary>
      {lines.map((line, i) => (
        <div class="gate" key={i}>
          <input class="gene" placeholder="Gene" aria-label={`Gene of threshold ${i + 1}`} value={line.gene} onInput={(event) => change(i, { gene: event.currentTarget.value })} />
          <select aria-label={`Direction of threshold ${i + 1}`} value={line.comparisonType} onChange={(event) => change(i, { comparisonType: event.currentTarget.value as Line["comparisonType"] })}>
            <option value="greaterThan">&gt;</option>
            <option value="lessThan">&lt;</option>
          </select>
          <input type="number" step="0.1" aria-label={`Value of threshold ${i + 1}`} value={line.value} onChange={(event) => change(i, { value: event.currentTarget.valueAsNumber || 0 })} />
        </div>
      ))}
      <div class="buttons">
        <button class="btn" onClick={() => setLines([...lines, EMPTY])}>And another gene</button>
        {lines.length > 1 && <button class="btn" onClick={() => setLines(lines.slice(0, -1))}>One less</button>}
        <button class="btn p" disabled={!lines[0].gene.trim()} onClick={() => void run()}>Make a set</button>
      </div>
      {trouble && <Failure message={trouble} small />}
    </details>
  );
}
