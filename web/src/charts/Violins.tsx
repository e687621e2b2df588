// Violins of one gene, column or score: the worker's density of each group, some of its cells as points, the quartiles.
import { scaleLinear } from "d3-scale";
import { shortened } from "../map/labels";
import { Failure, Waiting } from "../ui/States";
import type { GroupSummaries, GroupSummary, Grouping } from "../wire/types";
import { Figure } from "./Figure";
import type { PlotGroup } from "./groups";
import { jitter } from "./statistics";
import { summariesOf, valuesOf, type PlotVariable } from "./variables";
import { ValueAxis } from "./ValueAxis";

/** Pixels that a slanted name takes. Where groups are closer, some names are left out; a tooltip shows each. */
const NAME_PX = 14;
const MAX_POINTS = 250;
const HEIGHT = 190;
const BOTTOM = 62;
const LEFT = 40;

interface Part {
  readonly group: PlotGroup;
  readonly summary: GroupSummary;
}

interface Props {
  readonly variable: PlotVariable;
  readonly groupBy: Grouping;
  readonly groups: readonly PlotGroup[];
  readonly version: string;
}

function tableOf(title: string, { probabilities }: GroupSummaries, parts: readonly Part[]) {
  const columns: Record<string, (string | number | null)[]> = {
    of: parts.map(() => title), group: parts.map(({ group }) => group.name), cells: parts.map(({ summary }) => summary.cells),
    missing: parts.map(({ summary }) => summary.missing), positive: parts.map(({ summary }) => summary.positive),
    mean: parts.map(({ summary }) => summary.mean), standard_deviation: parts.map(({ summary }) => summary.deviation),
  };
  probabilities.forEach((share, i) => (columns[`quantile_${share}`] = parts.map(({ summary }) => summary.quantiles[i] ?? null)));
  return columns;
}

/** The outline: the density mirrored, cut where the group's own values end. */
function outline({ points }: GroupSummaries, { summary }: Part, at: number, half: number, y: (value: number) => number): string {
  const [low, high] = [summary.quantiles[0] ?? 0, summary.quantiles[summary.quantiles.length - 1] ?? 0];
  const step = points.length > 1 ? points[1] - points[0] : 0;
  const inside = [...points.keys()].filter((k) => points[k] >= low - step && points[k] <= high + step);
  const most = Math.max(...summary.density);
  if (!(most > 0) || !inside.length) return "";
  const edge = (side: number) => inside.map((k) => `${(at + side * (summary.density[k] / most) * half).toFixed(1)},${y(Math.min(Math.max(points[k], low), high)).toFixed(1)}`);
  return `M${[...edge(1), ...edge(-1).reverse()].join("L")}Z`;
}

function said({ group, summary }: Part, found: GroupSummaries): string {
  const median = summary.quantiles[found.probabilities.indexOf(0.5)];
  return `${group.name}: ${summary.cells.toLocaleString("en")} cells, ${summary.positive.toLocaleString("en")} above 0, median ${median?.toPrecision(3) ?? "none"}`;
}

export function Violins({ variable, groupBy, groups, version }: Props) {
  const now = summariesOf(variable, groupBy, version).value;
  const values = valuesOf(variable);
  if (now.state === "loading") return <Waiting text={`Summarising ${variable.title.slice(0, 40)}`} />;
  if (now.state === "failed") return <Failure message={now.message} small />;
  const found = now.value;
  const byKey = new Map(found.groups.map((summary) => [summary.key, summary]));
  const parts = groups.flatMap((group): Part[] => {
    const summary = byKey.get(group.key);
    return summary ? [{ group, summary }] : [];
  });
  if (found.min === null || found.max === null) return <Failure message={`No cell of these groups has a value of ${variable.title.slice(0, 60)}.`} small />;
  const [low, high] = [Math.min(found.min, variable.gene ? 0 : found.min), found.max > found.min ? found.max : found.min + 1];
  const y = scaleLinear().domain([low, high]).range([HEIGHT - BOTTOM, 8]);
  const quantile = (part: Part, share: number) => part.summary.quantiles[found.probabilities.indexOf(share)];
  return (
    <Figure title={variable.title} gene={variable.gene} label={`Violin plot of ${variable.title} in ${parts.length} groups`} height={HEIGHT} table={() => tableOf(variable.title, found, parts)}>
      {(width) => {
        const step = (width - LEFT - 4) / Math.max(1, parts.length);
        const half = Math.min(step * 0.46, 26);
        const named = Math.ceil(NAME_PX / step);
        return (
          <>
            <ValueAxis y={y} left={LEFT} width={width} />
            {parts.map((part, i) => {
              const x = LEFT + step * (i + 0.5);
              const { group, summary } = part;
              const every = Math.max(1, Math.ceil(group.cells.length / MAX_POINTS));
              const dots = values ? group.cells.filter((cell, k) => k % every === 0 && !Number.isNaN(values[cell])).map((cell) => `M${(x + jitter(cell) * half * 0.7).toFixed(1)} ${y(values[cell]).toFixed(1)}h0`) : [];
              const [lower, median, upper] = [0.25, 0.5, 0.75].map((share) => quantile(part, share));
              return (
                <g key={group.key}>
                  <title>{said(part, found)}</title>
                  {summary.density.length > 0 && <path d={outline(found, part, x, half, y)} fill={group.color} fill-opacity={0.4} stroke={group.color} />}
                  <path class="points" d={dots.join("")} stroke={group.color} />
                  {lower != null && upper != null && <line class="box-line" x1={x} x2={x} y1={y(lower)} y2={y(upper)} />}
                  {median != null && <line class="median" x1={x - half * 0.6} x2={x + half * 0.6} y1={y(median)} y2={y(median)} />}
                  {i % named === 0 && <text class="tick" x={x} y={HEIGHT - BOTTOM + 12} transform={`rotate(-35 ${x} ${HEIGHT - BOTTOM + 12})`} text-anchor="end">{shortened(group.name, 16)}</text>}
                </g>
              );
            })}
          </>
        );
      }}
    </Figure>
  );
}
