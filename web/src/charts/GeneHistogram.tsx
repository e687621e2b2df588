// Histogram of one gene's expression.
import { scaleLinear } from "d3-scale";
import type { GeneValues } from "../data/genes";
import { Figure } from "./Figure";
import type { PlotGroup } from "./groups";
import { ValueAxis } from "./ValueAxis";

const BINS = 40;
const HEIGHT = 150;
const LEFT = 40;

export function GeneHistogram({ gene, groups }: { gene: GeneValues; groups: readonly PlotGroup[] }) {
  const high = gene.max || 1;
  const counts = groups.map((group) => {
    const own = new Uint32Array(BINS);
    for (const cell of group.cells) if (gene.values[cell] > 0) own[Math.min(BINS - 1, Math.floor((gene.values[cell] / high) * BINS))]++;
    return own;
  });
  const totals = Array.from({ length: BINS }, (_, i) => counts.reduce((sum, own) => sum + own[i], 0));
  const y = scaleLinear().domain([0, Math.max(1, ...totals)]).nice().range([HEIGHT - 28, 6]);
  const expressing = totals.reduce((sum, count) => sum + count, 0);
  const cells = groups.reduce((sum, group) => sum + group.cells.length, 0);
  const table = () => ({
    from: totals.map((_, i) => (i / BINS) * high), to: totals.map((_, i) => ((i + 1) / BINS) * high),
    ...Object.fromEntries(groups.map((group, g) => [group.name, counts[g]])),
  });
  return (
    <Figure title={gene.name} note={`${expressing.toLocaleString("en")} of ${cells.toLocaleString("en")} cells express it`} label={`Histogram of ${gene.name}`} height={HEIGHT} table={table}>
      {(width) => {
        const x = scaleLinear().domain([0, high]).range([LEFT, width - 6]);
        return (
          <>
            <ValueAxis y={y} left={LEFT} width={width} write={String} />
            {totals.map((_, i) => {
              let under = 0;
              return groups.map((group, g) => {
                const bottom = y(under);
                under += counts[g][i];
                return <rect key={`${i}-${group.key}`} x={x((i / BINS) * high)} width={Math.max(0.5, x(((i + 1) / BINS) * high) - x((i / BINS) * high) - 1)} y={y(under)} height={Math.max(0, bottom - y(under))} fill={group.color} />;
              });
            })}
            {x.ticks(6).map((tick) => <text key={tick} class="tick" x={x(tick)} y={HEIGHT - 12} text-anchor="middle">{tick}</text>)}
          </>
        );
      }}
    </Figure>
  );
}
