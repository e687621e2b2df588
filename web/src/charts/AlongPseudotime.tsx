// The expression of a gene along pseudotime: single cells, and the mean of neighbouring cells.
import { scaleLinear } from "d3-scale";
import { useState } from "preact/hooks";
import { geneNames, geneValues } from "../data/genes";
import type { NumberColumn } from "../data/numbers";
import { view } from "../state/view";
import { Waiting } from "../ui/States";
import { Figure } from "./Figure";

const HEIGHT = 170;
const LEFT = 34;
const BOTTOM = 30;
const WINDOWS = 40;

export function AlongPseudotime({ column }: { column: NumberColumn }) {
  const [chosen, setChosen] = useState("");
  const colour = view.value.maps.find((map) => map.colour.by === "gene")?.colour;
  const options = [...new Set([...(colour?.by === "gene" ? [colour.gene] : []), ...view.value.plotGenes, ...(geneNames.value?.names.slice(0, 20) ?? [])])];
  const gene = chosen || options[0];
  if (!gene) return null;
  const now = geneValues(gene).value;
  const choice = (
    <label class="field wide"><span>Gene along pseudotime</span><select value={gene} onChange={(event) => setChosen(event.currentTarget.value)}>{options.map((name) => <option key={name}>{name}</option>)}</select></label>
  );
  if (now.state !== "ready") return <section class="task">{choice}<Waiting text="Reading" /></section>;
  const { values, max } = now.value;
  const cells = Array.from(column.values.keys()).filter((cell) => !Number.isNaN(column.values[cell])).sort((a, b) => column.values[a] - column.values[b]);
  const each = Math.max(1, Math.floor(cells.length / WINDOWS));
  const means = Array.from({ length: Math.floor(cells.length / each) }, (_, k) => {
    const own = cells.slice(k * each, (k + 1) * each);
    return [own.reduce((sum, cell) => sum + column.values[cell], 0) / own.length, own.reduce((sum, cell) => sum + values[cell], 0) / own.length] as const;
  });
  const y = scaleLinear().domain([0, max || 1]).range([HEIGHT - BOTTOM, 8]);
  const every = Math.max(1, Math.ceil(cells.length / 4000));
  const table = () => ({ cell_id: cells, pseudotime: cells.map((cell) => column.values[cell]), [gene]: cells.map((cell) => values[cell]) });
  return (
    <section class="task">
      {choice}
      <Figure title={`${gene} along pseudotime`} label={`${gene} along pseudotime in ${cells.length} cells`} height={HEIGHT} table={table}>
        {(width) => {
          const x = scaleLinear().domain([column.min, column.max]).range([LEFT, width - 8]);
          return (
            <>
              {y.ticks(4).map((tick) => <text key={tick} class="tick" x={LEFT - 5} y={y(tick) + 3} text-anchor="end">{tick}</text>)}
              {x.ticks(5).map((tick) => <text key={`x${tick}`} class="tick" x={x(tick)} y={HEIGHT - 15} text-anchor="middle">{tick}</text>)}
              <path class="points soft" d={cells.filter((_, i) => i % every === 0).map((cell) => `M${x(column.values[cell]).toFixed(1)} ${y(values[cell]).toFixed(1)}h0`).join("")} />
              <path class="curve" d={`M${means.map(([at, mean]) => `${x(at).toFixed(1)},${y(mean).toFixed(1)}`).join("L")}`} />
              <text class="axis" x={width - 8} y={HEIGHT - 3} text-anchor="end">pseudotime</text>
            </>
          );
        }}
      </Figure>
    </section>
  );
}
