// One gene against another in every cell; a drag selects the cells in a box, a gate on two genes.
import { scaleLinear } from "d3-scale";
import { useState } from "preact/hooks";
import type { GeneValues } from "../data/genes";
import { shortened } from "../map/labels";
import { select } from "../state/selection";
import { say } from "../ui/notes";
import { Figure } from "./Figure";
import type { PlotGroup } from "./groups";
import { jitter } from "./statistics";

const HEIGHT = 260;
const LEFT = 36;
const BOTTOM = 30;
const MAX_POINTS = 20_000;

export function GeneAgainstGene({ genes: [one, two], groups }: { genes: readonly [GeneValues, GeneValues]; groups: readonly PlotGroup[] }) {
  const [drag, setDrag] = useState<readonly [number, number, number, number] | null>(null);
  const cells = groups.reduce((sum, group) => sum + group.cells.length, 0);
  const every = Math.max(1, Math.ceil(cells / MAX_POINTS));
  const y = scaleLinear().domain([0, two.max || 1]).range([HEIGHT - BOTTOM, 8]);
  const table = () => {
    const all = groups.flatMap((group) => group.cells.map((cell) => [cell, group.name] as const));
    return { cell_id: all.map(([cell]) => cell), group: all.map(([, name]) => name), [one.name]: all.map(([cell]) => one.values[cell]), [two.name]: all.map(([cell]) => two.values[cell]) };
  };
  return (
    <Figure title={`${shortened(two.name, 24)} against ${shortened(one.name, 24)}`} label={`${two.name} against ${one.name} in ${cells} cells. Drag to select cells.`} height={HEIGHT} table={table}>
      {(width) => {
        const x = scaleLinear().domain([0, one.max || 1]).range([LEFT, width - 8]);
        const place = (event: PointerEvent): [number, number] => {
          const box = (event.currentTarget as Element).closest("svg")?.getBoundingClientRect() as DOMRect;
          return [event.clientX - box.left, event.clientY - box.top];
        };
        const finish = () => {
          if (!drag) return;
          const [x0, x1] = [x.invert(Math.min(drag[0], drag[2])), x.invert(Math.max(drag[0], drag[2]))];
          const [y0, y1] = [y.invert(Math.max(drag[1], drag[3])), y.invert(Math.min(drag[1], drag[3]))];
          const mask = new Uint8Array(one.values.length);
          for (const group of groups) {
            for (const cell of group.cells) if (one.values[cell] >= x0 && one.values[cell] <= x1 && two.values[cell] >= y0 && two.values[cell] <= y1) mask[cell] = 1;
          }
          select(mask);
          if (Math.abs(drag[2] - drag[0]) < 3) setDrag(null);
          else if (!mask.includes(1)) say("There is no cell in the box.");
        };
        return (
          <>
            {y.ticks(5).map((tick) => <text key={`y${tick}`} class="tick" x={LEFT - 6} y={y(tick) + 3} text-anchor="end">{tick}</text>)}
            {x.ticks(5).map((tick) => <text key={`x${tick}`} class="tick" x={x(tick)} y={HEIGHT - 16} text-anchor="middle">{tick}</text>)}
            <path class="base" d={`M${LEFT} 8V${HEIGHT - BOTTOM}H${width - 8}`} />
            {groups.map((group) => (
              <path key={group.key} class="points" stroke={group.color} d={group.cells.filter((_, i) => i % every === 0).map((cell) => `M${(x(one.values[cell]) + jitter(cell) * 2).toFixed(1)} ${(y(two.values[cell]) + jitter(cell + 7) * 2).toFixed(1)}h0`).join("")} />
            ))}
            <text class="axis gene" x={width - 8} y={HEIGHT - 3} text-anchor="end">{shortened(one.name, 24)}</text>
            <text class="axis gene" x={LEFT + 6} y={14}>{shortened(two.name, 24)}</text>
            <rect
              class="catch" x={0} y={0} width={width} height={HEIGHT}
              onPointerDown={(event) => ((event.currentTarget as Element).setPointerCapture(event.pointerId), setDrag([...place(event), ...place(event)]))}
              onPointerMove={(event) => drag && event.buttons && setDrag([drag[0], drag[1], ...place(event)])}
              onPointerUp={finish}
            />
            {drag && <rect class="brush" x={Math.min(drag[0], drag[2])} y={Math.min(drag[1], drag[3])} width={Math.abs(drag[2] - drag[0])} height={Math.abs(drag[3] - drag[1])} />}
          </>
        );
      }}
    </Figure>
  );
}
