// Histogram of a column or score by group; the worker counts the cells.
import { scaleLinear } from "d3-scale";
import { Failure, Waiting } from "../ui/States";
import type { Grouping } from "../wire/types";
import { Figure } from "./Figure";
import type { PlotGroup } from "./groups";
import { summariesOf, type PlotVariable } from "./variables";
import { ValueAxis } from "./ValueAxis";

const HEIGHT = 150;
const LEFT = 40;

interface Props {
  readonly variable: PlotVariable;
  readonly groupBy: Grouping;
  readonly groups: readonly PlotGroup[];
  readonly version: string;
}

export function ColumnHistogram({ variable, groupBy, groups, version }: Props) {
  const now = summariesOf(variable, groupBy, version).value;
  if (now.state === "loading") return <Waiting text={`Counting ${variable.title.slice(0, 40)}`} />;
  if (now.state === "failed") return <Failure message={now.message} small />;
  const { edges, groups: summaries } = now.value;
  const byKey = new Map(summaries.map((summary) => [summary.key, summary]));
  const parts = groups.flatMap((group) => {
    const counts = byKey.get(group.key)?.counts;
    return counts?.length ? [{ group, counts }] : [];
  });
  const bins = edges.length - 1;
  if (bins < 1 || !parts.length) return <Failure message={`No cell of these groups has a value of ${variable.title.slice(0, 60)}.`} small />;
  const totals = Array.from({ length: bins }, (_, i) => parts.reduce((sum, part) => sum + part.counts[i], 0));
  const y = scaleLinear().domain([0, Math.max(1, ...totals)]).nice().range([HEIGHT - 28, 6]);
  const table = () => ({ from: edges.slice(0, -1), to: edges.slice(1), ...Object.fromEntries(parts.map(({ group, counts }) => [group.name, counts])) });
  return (
    <Figure title={variable.title} label={`Histogram of ${variable.title}`} height={HEIGHT} table={table}>
      {(width) => {
        const x = scaleLinear().domain([edges[0], edges[bins] > edges[0] ? edges[bins] : edges[0] + 1]).range([LEFT, width - 6]);
        return (
          <>
            <ValueAxis y={y} left={LEFT} width={width} />
            {totals.map((_, i) => {
              let under = 0;
              return parts.map(({ group, counts }) => {
                const bottom = y(under);
                under += counts[i];
                return <rect key={`${i}-${group.key}`} x={x(edges[i])} width={Math.max(0.5, x(edges[i + 1]) - x(edges[i]) - 1)} y={y(under)} height={Math.max(0, bottom - y(under))} fill={group.color} />;
              });
            })}
            {x.ticks(6).map((tick) => <text key={tick} class="tick" x={x(tick)} y={HEIGHT - 12} text-anchor="middle">{tick.toLocaleString("en")}</text>)}
          </>
        );
      }}
    </Figure>
  );
}
