// The share of each group in each sample, or in each set of another class.
import { useState } from "preact/hooks";
import { shortened } from "../map/labels";
import { classes, findClass, groupsOf, type CellClass } from "../sets/model";
import { Choice } from "../ui/Fields";
import { Hint } from "../ui/States";
import { Figure } from "./Figure";
import { largest, mostOf, type PlotGroup, type PlotGroups } from "./groups";

const ROW = 24;
const LEFT = 108;

function counts(bars: CellClass, groups: readonly PlotGroup[]): number[][] {
  const { codes } = groupsOf(bars);
  return groups.map((group) => {
    const own = bars.children.map(() => 0);
    for (const cell of group.cells) if (codes[cell] >= 0) own[codes[cell]]++;
    return own;
  });
}

/** The groups that have no colour of their own here, as one: shares are of all cells. */
function together(others: readonly PlotGroup[]): PlotGroup[] {
  return others.length ? [{ key: "others", name: `${others.length.toLocaleString("en")} other groups`, color: "var(--dim)", cells: others.flatMap((group) => group.cells) }] : [];
}

export function Composition({ item, groups: { shown, others: rest } }: { item: CellClass; groups: PlotGroups }) {
  const groups = [...shown, ...together(rest)];
  const others = classes.value.filter((other) => other.key !== item.key && other.children.length);
  const [chosen, setChosen] = useState("");
  const whole = findClass(chosen) ?? others.find((other) => other.key === "sample") ?? others[0];
  if (!whole) return <Hint>There is no second class to compare with: samples, or another grouping of the cells.</Hint>;
  const [children, left] = largest(whole.children, mostOf(whole), (child) => child.cellIds.length);
  const bars = left.length ? { ...whole, children } : whole;
  const found = counts(bars, groups);
  const totals = bars.children.map((_, i) => found.reduce((sum, own) => sum + own[i], 0));
  const rows = bars.children.flatMap((bar, i) => groups.map((group, g) => ({ bar: bar.name, group: group.name, cells: found[g][i], share: totals[i] ? found[g][i] / totals[i] : 0 })));
  const table = () => ({ [bars.name]: rows.map((row) => row.bar), [item.name]: rows.map((row) => row.group), cells: rows.map((row) => row.cells), share: rows.map((row) => row.share) });
  return (
    <>
      <Choice label="By" value={bars.key} options={others.map((other) => [other.key, other.name] as const)} onChange={setChosen} />
      {left.length > 0 && <Hint>{`The ${children.length.toLocaleString("en")} largest of ${whole.children.length.toLocaleString("en")} sets of ${shortened(whole.name, 40)} have a bar.`}</Hint>}
      <Figure title={`${item.name} by ${bars.name}`} label={`Share of ${item.name} in ${bars.children.length} groups of ${bars.name}`} height={bars.children.length * ROW + 24} table={table}>
        {(width) => {
          const wide = width - LEFT - 46;
          return (
            <>
              {bars.children.map((bar, i) => {
                let before = 0;
                return (
                  <g key={bar.key}>
                    <text class="tick" x={LEFT - 8} y={ROW * (i + 0.5) + 4} text-anchor="end">{shortened(bar.name, 16)}</text>
                    {groups.map((group, g) => {
                      const share = totals[i] ? found[g][i] / totals[i] : 0;
                      const x = LEFT + before * wide;
                      before += share;
                      return (
                        <rect key={group.key} x={x} y={ROW * i + 4} width={share * wide > 3 ? share * wide - 1 : share * wide} height={ROW - 8} fill={group.color}>
                          <title>{`${bar.name}: ${found[g][i]} cells (${(share * 100).toFixed(1)} %) are ${group.name}`}</title>
                        </rect>
                      );
                    })}
                    <text class="tick" x={width - 2} y={ROW * (i + 0.5) + 4} text-anchor="end">{totals[i].toLocaleString("en")}</text>
                  </g>
                );
              })}
              {[0, 0.5, 1].map((share) => <text key={share} class="tick" x={LEFT + share * wide} y={bars.children.length * ROW + 16} text-anchor="middle">{share * 100} %</text>)}
            </>
          );
        }}
      </Figure>
    </>
  );
}
