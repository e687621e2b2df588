// Violins of one gene: a density per group, some of its cells as points, the median.
import { scaleLinear } from "d3-scale";
import type { GeneValues } from "../data/genes";
import { shortened } from "../map/labels";
import { Figure } from "./Figure";
import type { PlotGroup } from "./groups";
import { density, jitter, quantile } from "./statistics";

const STEPS = 60;
const MAX_POINTS = 250;
const HEIGHT = 190;
const BOTTOM = 62;

interface Summary {
  readonly group: PlotGroup;
  readonly values: Float32Array;
  readonly shape: Float64Array;
  readonly median: number;
  readonly expressing: number;
}

function summaries(gene: GeneValues, groups: readonly PlotGroup[], high: number): Summary[] {
  return groups.map((group) => {
    const values = Float32Array.from(group.cells, (cell) => gene.values[cell] ?? 0);
    const sorted = values.slice().sort();
    let expressing = 0;
    for (const value of values) if (value > 0) expressing++;
    return { group, values, shape: density(values, 0, high, STEPS), median: quantile(sorted, 0.5), expressing };
  });
}

export function Violins({ gene, groups }: { gene: GeneValues; groups: readonly PlotGroup[] }) {
  const high = gene.max || 1;
  const parts = summaries(gene, groups, high);
  const y = scaleLinear().domain([0, high]).range([HEIGHT - BOTTOM, 8]);
  const table = () => ({
    gene: parts.map(() => gene.name),
    group: parts.map((part) => part.group.name),
    cells: parts.map((part) => part.values.length),
    expressing: parts.map((part) => part.expressing),
    median: parts.map((part) => part.median),
    mean: parts.map((part) => part.values.reduce((sum, value) => sum + value, 0) / part.values.length),
  });
  return (
    <Figure title={gene.name} label={`Violin plot of ${gene.name} in ${groups.length} groups`} height={HEIGHT} table={table}>
      {(width) => {
        const left = 30;
        const step = (width - left - 4) / Math.max(1, parts.length);
        const half = Math.min(step * 0.46, 26);
        return (
          <>
            {y.ticks(4).map((tick) => (
              <g key={tick}>
                <line class="grid" x1={left} x2={width} y1={y(tick)} y2={y(tick)} />
                <text class="tick" x={left - 5} y={y(tick) + 3} text-anchor="end">{tick}</text>
              </g>
            ))}
            {parts.map((part, i) => {
              const x = left + step * (i + 0.5);
              const edge = Array.from(part.shape, (share, k) => `${(x + share * half).toFixed(1)},${y((k / (STEPS - 1)) * high).toFixed(1)}`);
              const back = Array.from(part.shape, (share, k) => `${(x - share * half).toFixed(1)},${y((k / (STEPS - 1)) * high).toFixed(1)}`).reverse();
              const every = Math.max(1, Math.ceil(part.values.length / MAX_POINTS));
              const dots = part.group.cells.filter((_, k) => k % every === 0).map((cell) => `M${(x + jitter(cell) * half * 0.7).toFixed(1)} ${y(gene.values[cell] ?? 0).toFixed(1)}h0`);
              return (
                <g key={part.group.key}>
                  <title>{`${part.group.name}: ${part.values.length} cells, ${part.expressing} express it, median ${part.median.toFixed(2)}`}</title>
                  <path d={`M${[...edge, ...back].join("L")}Z`} fill={part.group.color} fill-opacity={0.4} stroke={part.group.color} />
                  <path class="points" d={dots.join("")} stroke={part.group.color} />
                  <line class="median" x1={x - half * 0.6} x2={x + half * 0.6} y1={y(part.median)} y2={y(part.median)} />
                  <text class="tick" x={x} y={HEIGHT - BOTTOM + 12} transform={`rotate(-35 ${x} ${HEIGHT - BOTTOM + 12})`} text-anchor="end">{shortened(part.group.name, 16)}</text>
                </g>
              );
            })}
          </>
        );
      }}
    </Figure>
  );
}
