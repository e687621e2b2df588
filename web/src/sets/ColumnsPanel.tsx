// The numbers of each cell: a histogram of each, to colour by, and to select a range of.
import { useMemo, useState } from "preact/hooks";
import { numberColumn, NUMBER_LABELS, type NumberColumn, type NumberTask } from "../data/numbers";
import { select } from "../state/selection";
import { colourBy, view } from "../state/view";
import { Failure, Hint, Waiting } from "../ui/States";
import { facts } from "../wire/door";

const BINS = 40;
const WIDTH = 236;
const HEIGHT = 46;

function histogram(column: NumberColumn): Uint32Array {
  const counts = new Uint32Array(BINS);
  const scale = column.max > column.min ? BINS / (column.max - column.min) : 0;
  for (const value of column.values) if (!Number.isNaN(value)) counts[Math.min(BINS - 1, Math.floor((value - column.min) * scale))]++;
  return counts;
}

function Histogram({ column }: { column: NumberColumn }) {
  const counts = useMemo(() => histogram(column), [column]);
  const [range, setRange] = useState<readonly [number, number] | null>(null);
  const most = Math.max(...counts);
  const at = (event: PointerEvent) => {
    const box = (event.currentTarget as Element).getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
  };
  const value = (share: number) => column.min + share * (column.max - column.min);
  const finish = () => {
    if (!range) return;
    const [low, high] = [value(Math.min(...range)), value(Math.max(...range))];
    if (Math.abs(range[1] - range[0]) > 0.01) select(Uint8Array.from(column.values, (own) => (own >= low && own <= high ? 1 : 0)));
    else setRange(null);
  };
  return (
    <svg
      class="chart histogram" width={WIDTH} height={HEIGHT} role="img" aria-label={`${column.label}: from ${column.min.toPrecision(3)} to ${column.max.toPrecision(3)}. Drag to select cells of a range.`}
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

function Column({ task }: { task: NumberTask }) {
  const now = numberColumn(task).value;
  const shown = view.value.maps.some((map) => map.colour.by === "number" && map.colour.task === task);
  return (
    <section class="column">
      <div class="cls">
        <b>{NUMBER_LABELS[task]}</b>
        {shown ? <span class="chip">colours</span> : <button class="paint shown" onClick={() => colourBy({ by: "number", task })}>colour</button>}
      </div>
      {now.state === "ready" && (
        <>
          <Histogram column={now.value} />
          <div class="ends"><em>{now.value.min.toPrecision(3)}</em><em>{now.value.max.toPrecision(3)}</em></div>
        </>
      )}
      {now.state === "loading" && <Waiting text="Reading" />}
      {now.state === "failed" && <Failure message={now.message} small />}
    </section>
  );
}

export function ColumnsPanel() {
  const numbers = (facts.value?.numbers ?? []) as NumberTask[];
  return (
    <div class="panel">
      <div class="scroll">
        {numbers.map((task) => <Column key={task} task={task} />)}
        {!numbers.length && <Hint>The file has no quality measures of its cells.</Hint>}
        <Hint>Drag over a histogram to select the cells of a range.</Hint>
      </div>
    </div>
  );
}
