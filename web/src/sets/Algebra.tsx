// A selection from two sets: union, intersection or difference.
import { useState } from "preact/hooks";
import { common, union, without, type Mask } from "../data/bitmap";
import { select } from "../state/selection";
import { maskOfCells } from "./model";
import { SetOptions } from "./SetOptions";

const WAYS = {
  union: ["or", union],
  common: ["and", common],
  without: ["without", without],
} as const satisfies Record<string, readonly [string, (a: Mask, b: Mask) => Mask]>;

function Sets({ label, value, onChange }: { label: string; value: string; onChange: (key: string) => void }) {
  return (
    <select aria-label={label} value={value} onChange={(event) => onChange(event.currentTarget.value)}>
      <option value="">choose</option>
      <SetOptions />
    </select>
  );
}

export function Algebra() {
  const [first, setFirst] = useState("");
  const [second, setSecond] = useState("");
  const [way, setWay] = useState<keyof typeof WAYS>("common");
  const run = () => {
    const a = maskOfCells(first);
    const b = maskOfCells(second);
    if (a && b) select(WAYS[way][1](a, b));
  };
  return (
    <details class="more-part">
      <summary>Combine two sets</summary>
      <div class="algebra">
        <Sets label="First set" value={first} onChange={setFirst} />
        <select aria-label="How they are combined" value={way} onChange={(event) => setWay(event.currentTarget.value as keyof typeof WAYS)}>
          {Object.entries(WAYS).map(([key, [text]]) => <option key={key} value={key}>{text}</option>)}
        </select>
        <Sets label="Second set" value={second} onChange={setSecond} />
        <button class="btn" disabled={!first || !second} onClick={run}>Select</button>
      </div>
    </details>
  );
}
