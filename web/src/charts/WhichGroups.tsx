// Of a class with very many sets: how many are plotted, and which.
import { useState } from "preact/hooks";
import type { CellClass } from "../sets/model";
import { MAX_GROUPS, update, view } from "../state/view";
import { hasMany, type PlotGroups } from "./groups";

const write = (count: number) => count.toLocaleString("en");

function sentence({ shown, others }: PlotGroups): string {
  const named = view.value.groupsNamed.trim();
  const all = shown.length + others.length;
  if (!others.length) return `All ${write(all)} groups are plotted.`;
  const cells = shown.reduce((sum, group) => sum + group.cells.length, 0);
  const which = named ? `Of ${write(all)} groups, ${write(shown.length)} with “${named.slice(0, 40)}” in their names are plotted` : `The ${write(shown.length)} largest of ${write(all)} groups are plotted`;
  return `${which}, ${write(cells)} cells. Name some to see others.`;
}

export function WhichGroups({ item, groups }: { item: CellClass; groups: PlotGroups }) {
  const { mostGroups, groupsNamed } = view.value;
  const [typed, setTyped] = useState(groupsNamed);
  if (!hasMany(item)) return null;
  const most = Math.min(MAX_GROUPS, item.children.length);
  return (
    <>
      <label class="field">
        <span>Which</span>
        <input type="search" placeholder="Groups named" aria-label="Plot groups whose names hold" value={typed} onInput={(event) => setTyped(event.currentTarget.value)} onChange={(event) => update({ groupsNamed: event.currentTarget.value })} />
        <input
          type="number" min={2} max={most} value={mostGroups} aria-label="Largest groups plotted" title="How many are plotted, the largest"
          onChange={(event) => event.currentTarget.valueAsNumber >= 2 && update({ mostGroups: Math.min(most, Math.floor(event.currentTarget.valueAsNumber)) })}
        />
      </label>
      <p class="hint">{sentence(groups)}</p>
    </>
  );
}
