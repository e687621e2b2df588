// Fold change against p of every gene. A drag picks genes, and the table shows these alone; a click colours the map.
import { scaleLinear } from "d3-scale";
import { useMemo, useRef, useState } from "preact/hooks";
import { ValueAxis } from "../charts/ValueAxis";
import { hoveredGene } from "../state/selection";
import { showGene } from "../state/view";
import { filters } from "./compare";
import { shortened } from "../map/labels";
import type { Table } from "./table";

const MAX_NAME = 24;
const MARGIN = { top: 18, right: 10, bottom: 30, left: 34 };
const LABELS = 6;
const LEAST_P = 1e-310;

interface Dots {
  readonly x: Float64Array;
  readonly y: Float64Array;
}

interface Props {
  readonly table: Table;
  readonly width: number;
  readonly height: number;
  readonly svgRef: { current: SVGSVGElement | null };
}

function heights(table: Table): Float64Array {
  const { p_val: p, logFC, AveExpr } = table.numbers;
  // comparisons without replicates have no p: the mean is drawn instead
  return Float64Array.from(logFC, (_, i) => (p ? -Math.log10(Math.max(p[i], LEAST_P)) : (AveExpr?.[i] ?? 0)));
}

/** Dots that would fall on the same half pixel are drawn once. */
function path(rows: number[], dots: Dots): string {
  const seen = new Set<number>();
  const parts: string[] = [];
  for (const row of rows) {
    const x = Math.round(dots.x[row] * 2);
    const y = Math.round(dots.y[row] * 2);
    const spot = x * 4096 + y;
    if (seen.has(spot)) continue;
    seen.add(spot);
    parts.push(`M${x / 2} ${y / 2}h0`);
  }
  return parts.join("");
}

function labelled(dots: Dots, y: Float64Array): number[] {
  const order = [...y.keys()].filter((i) => !Number.isNaN(y[i])).sort((a, b) => y[b] - y[a]).slice(0, 60);
  const taken: number[] = [];
  for (const row of order) {
    if (taken.length >= LABELS) break;
    const near = taken.some((other) => Math.abs(dots.y[other] - dots.y[row]) < 13 && Math.abs(dots.x[other] - dots.x[row]) < 90);
    if (!near) taken.push(row);
  }
  return taken;
}

export function Volcano({ table, width, height, svgRef }: Props) {
  const [drag, setDrag] = useState<readonly [number, number, number, number] | null>(null);
  const own = useRef<SVGSVGElement | null>(null);
  const drawn = useMemo(() => {
    const { logFC, p_val_adj: adjusted } = table.numbers;
    const up = heights(table);
    let wide = 0.5;
    let high = 1;
    for (let i = 0; i < up.length; i++) {
      if (Math.abs(logFC[i]) > wide) wide = Math.abs(logFC[i]);
      if (up[i] > high) high = up[i];
    }
    const x = scaleLinear().domain([-wide, wide]).nice().range([MARGIN.left, width - MARGIN.right]);
    const y = scaleLinear().domain([0, high]).nice().range([height - MARGIN.bottom, MARGIN.top]);
    const dots = { x: logFC.map((value) => x(value)), y: up.map((value) => y(value)) };
    const kinds: Record<"none" | "up" | "down", number[]> = { none: [], up: [], down: [] };
    for (let i = 0; i < up.length; i++) {
      if (Number.isNaN(logFC[i]) || Number.isNaN(up[i])) continue;
      const found = adjusted ? adjusted[i] < 0.05 && Math.abs(logFC[i]) > 0.5 : Math.abs(logFC[i]) > 1;
      kinds[!found ? "none" : logFC[i] > 0 ? "up" : "down"].push(i);
    }
    return { x, y, dots, paths: { none: path(kinds.none, dots), up: path(kinds.up, dots), down: path(kinds.down, dots) }, labels: labelled(dots, up) };
  }, [table, width, height]);

  const place = (event: PointerEvent): [number, number] => {
    const box = (own.current as SVGSVGElement).getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const nearest = (at: readonly [number, number], radius: number): number | null => {
    let best: number | null = null;
    let closest = radius * radius;
    for (let i = 0; i < drawn.dots.x.length; i++) {
      const distance = (drawn.dots.x[i] - at[0]) ** 2 + (drawn.dots.y[i] - at[1]) ** 2;
      if (distance <= closest) (closest = distance), (best = i);
    }
    return best;
  };
  const finish = (event: PointerEvent) => {
    const now = drag;
    setDrag(null);
    if (!now) return;
    const [x0, y0, x1, y1] = [Math.min(now[0], now[2]), Math.min(now[1], now[3]), Math.max(now[0], now[2]), Math.max(now[1], now[3])];
    if (x1 - x0 < 4 && y1 - y0 < 4) {
      const row = nearest(place(event), 8);
      if (row !== null) showGene(table.names[row]);
      filters.value = { ...filters.value, picked: null };
      return;
    }
    const picked = new Set<number>();
    for (let i = 0; i < drawn.dots.x.length; i++) {
      if (drawn.dots.x[i] >= x0 && drawn.dots.x[i] <= x1 && drawn.dots.y[i] >= y0 && drawn.dots.y[i] <= y1) picked.add(i);
    }
    filters.value = { ...filters.value, picked };
  };
  const hovered = hoveredGene.value === null ? -1 : table.names.indexOf(hoveredGene.value);
  const yLabel = table.numbers.p_val ? "−log10 p" : "mean expression";
  return (
    <svg
      ref={(element) => void (svgRef.current = own.current = element)} class="chart volcano" width={width} height={height} role="img"
      aria-label={`Volcano plot of ${table.names.length} genes. The table below has the same numbers.`}
      onPointerDown={(event) => {
        own.current?.setPointerCapture(event.pointerId);
        const [x, y] = place(event);
        setDrag([x, y, x, y]);
      }}
      onPointerMove={(event) => {
        const [x, y] = place(event);
        if (drag) setDrag([drag[0], drag[1], x, y]);
        else {
          const row = nearest([x, y], 8);
          hoveredGene.value = row === null ? null : table.names[row];
        }
      }}
      onPointerUp={finish}
      onPointerLeave={() => (hoveredGene.value = null)}
    >
      <ValueAxis y={drawn.y} left={MARGIN.left} width={width - MARGIN.right} count={5} write={String} />
      {drawn.x.ticks(7).map((tick) => <text key={tick} class="tick" x={drawn.x(tick)} y={height - 16} text-anchor="middle">{String(tick).replace("-", "−")}</text>)}
      <text class="axis" x={(MARGIN.left + width) / 2} y={height - 3} text-anchor="middle">log2 fold change</text>
      <text class="axis" x={MARGIN.left + 2} y={9}>{yLabel}</text>
      <path class="dots none" d={drawn.paths.none} />
      <path class="dots down" d={drawn.paths.down} />
      <path class="dots up" d={drawn.paths.up} />
      {drawn.labels.filter((row) => row !== hovered).map((row) => {
        const end = drawn.dots.x[row] > width - 90;
        return <text key={row} class="name" x={drawn.dots.x[row] + (end ? -6 : 6)} y={drawn.dots.y[row] + 4} text-anchor={end ? "end" : "start"}>{shortened(table.names[row], MAX_NAME)}</text>;
      })}
      {hovered >= 0 && (
        <g class="lit">
          <circle cx={drawn.dots.x[hovered]} cy={drawn.dots.y[hovered]} r={5} />
          <text class="name" x={drawn.dots.x[hovered] + (drawn.dots.x[hovered] > width - 90 ? -9 : 9)} y={drawn.dots.y[hovered] - 6} text-anchor={drawn.dots.x[hovered] > width - 90 ? "end" : "start"}>{shortened(table.names[hovered], MAX_NAME)}</text>
        </g>
      )}
      {drag && <rect class="brush" x={Math.min(drag[0], drag[2])} y={Math.min(drag[1], drag[3])} width={Math.abs(drag[2] - drag[0])} height={Math.abs(drag[3] - drag[1])} />}
    </svg>
  );
}
