// The upright axis of a chart: a line across and a number for each tick.
import type { ScaleLinear } from "d3-scale";

interface Props {
  readonly y: ScaleLinear<number, number>;
  readonly left: number;
  readonly width: number;
  /** About how many ticks. */
  readonly count?: number;
  readonly write?: (tick: number) => string;
}

export function ValueAxis({ y, left, width, count = 4, write = (tick) => tick.toLocaleString("en") }: Props) {
  return (
    <>
      {y.ticks(count).map((tick) => (
        <g key={tick}>
          <line class="grid" x1={left} x2={width} y1={y(tick)} y2={y(tick)} />
          <text class="tick" x={left - 5} y={y(tick) + 3} text-anchor="end">{write(tick)}</text>
        </g>
      ))}
    </>
  );
}
