// Columns of cells: quality measures with their histograms, and the file's own columns.
import { numberColumn, NUMBER_LABELS, type NumberTask } from "../data/numbers";
import { colourBy, view } from "../state/view";
import { Failure, Hint, Waiting } from "../ui/States";
import { facts } from "../wire/door";
import { CellColumns } from "./CellColumns";
import { Histogram } from "./Histogram";

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
        {numbers.length > 0 && <Hint>Drag over a histogram to select the cells of a range.</Hint>}
        <CellColumns />
      </div>
    </div>
  );
}
