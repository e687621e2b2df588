// Histogram of a number per cell; a drag selects the cells in a range.
import { useMemo, useState } from "preact/hooks";
import type { NumberColumn } from "../data/numbers";
import { select } from "../state/selection";

const BINS = 40;
const WIDTH = 236;
const HEIGHT = 46;

function histogram(column: NumberColumn): Uint32Array {
  const counts = new Uint32Array(BINS);
  const scale = column.max > column.min ? BINS / (column.max - column.min) : 0;
  for (const value of column.values) if (!Number.isNaN(value)) counts[Math.min(BINS - 1, Math.floor((value - column.min) * scale))]++;
  return counts;
}

export function Histogram({ column }: { column: NumberColumn }) {
  const counts = useMemo(() => histogram(column), [column]);
  const [range, setRange] = useState<readonly [number, number] | null>(null);
  const most = Math.max(...counts);
  const at = (event: PointerEvent) => {
    const box = (event.currentTarget as Element).getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
  };
  const value = (share: number) => column.min + share * (column.max - column.min);
  const selectBetween = (low: number, high: number) => select(Uint8Array.from(column.values, (own) => (own >= low && own <= high ? 1 : 0)));
  const finish = () => {
    if (!range) return;
    const [low, high] = [Math.min(...range), Math.max(...range)];
    const wide = high - low > 0.01;
    setRange(wide ? [low, high] : null);
    if (wide) selectBetween(value(low), value(high));
  };
  /** The keyboard's range: arrows move it by a bin, with Shift its end. */
  const step = (event: KeyboardEvent) => {
    const by = { ArrowRight: 1 / BINS, ArrowLeft: -1 / BINS }[event.key];
    if (!by) return;
    event.preventDefault();
    const [low, high] = range ?? [0, 1 / BINS];
    const moved = range ? ([event.shiftKey ? low : low + by, high + by] as const) : ([low, high] as const);
    if (moved[0] < -1e-9 || moved[1] > 1 + 1e-9 || moved[1] - moved[0] < 0.5 / BINS) return;
    setRange(moved);
    selectBetween(value(moved[0]), value(moved[1]));
  };
  return (
    <svg
      class="chart histogram" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" height={HEIGHT} role="application" tabindex={0} onKeyDown={step} aria-label={`${column.label}: from ${column.min.toPrecision(3)} to ${column.max.toPrecision(3)}. Drag, or press the arrows (Shift: the end), to select cells of a range.`}
      onPointerDown={(event) => ((event.currentTarget as Element).setPointerCapture(event.pointerId), setRange([at(event), at(event)]))}
      onPointerMove={(event) => range && event.buttons && setRange([range[0], at(event)])}
      onPointerUp={finish}
    >
      {Array.from(counts, (count, i) => <rect key={i} class="bin" x={(i * WIDTH) / BINS} width={WIDTH / BINS - 1} y={HEIGHT - 1 - (count / most) * (HEIGHT - 4)} height={(count / most) * (HEIGHT - 4)} />)}
      <line class="base" x1={0} x2={WIDTH} y1={HEIGHT - 0.5} y2={HEIGHT - 0.5} />
      {range && <rect class="brush" x={Math.min(...range) * WIDTH} width={Math.abs(range[1] - range[0]) * WIDTH} y={0} height={HEIGHT} />}
    </svg>
  );
}
