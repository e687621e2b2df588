// The file's own columns of cells: to colour by, to select from, to make cell sets of.
import { useState } from "preact/hooks";
import { cellColumn, cellColumns, dateText, type CellColumn } from "../data/columns";
import { select } from "../state/selection";
import { colourBy, view } from "../state/view";
import { addPlotColumn } from "../charts/variables";
import { Icon } from "../ui/icons";
import { Failure, Hint, Waiting } from "../ui/States";
import type { DescribedCellColumn } from "../wire/types";
import { makeClass } from "./edit";
import { Histogram } from "./Histogram";

const SHOWN_LEVELS = 30;
const MANY_COLUMNS = 10;
const KINDS: Readonly<Record<DescribedCellColumn["kind"], string>> = {
  category: "groups", number: "number", logical: "true or false", date: "date", time: "time", text: "names",
};

function Levels({ name, column }: { name: string; column: Extract<CellColumn, { shape: "groups" }> }) {
  const { labels, counts, codes } = column;
  if (!counts.some(Boolean)) return <Hint>No cell has a value here.</Hint>;
  const pick = (code: number) => select(Uint8Array.from(codes, (own) => (own === code ? 1 : 0)));
  const sets = () =>
    makeClass(name, labels.map((label, code) => ({ name: label || "(no name)", color: column.colors[code], mask: Uint8Array.from(codes, (own) => (own === code ? 1 : 0)) })));
  return (
    <>
      {labels.slice(0, SHOWN_LEVELS).map((label, code) => (
        <button key={code} class="level" title={`Select the cells of ${label}`} onClick={() => pick(code)}>
          <span>{label || "(no name)"}</span>
          <em>{counts[code].toLocaleString("en")}</em>
        </button>
      ))}
      {labels.length > SHOWN_LEVELS && <p class="hint">and {(labels.length - SHOWN_LEVELS).toLocaleString("en")} more</p>}
      {labels.length <= 200 && <div class="buttons pad"><button class="btn" onClick={() => void sets()}>Make cell sets of it</button></div>}
    </>
  );
}

function Content({ name }: { name: string }) {
  const now = cellColumn(name).value;
  if (now.state === "loading") return <Waiting text="Reading" />;
  if (now.state === "failed") return <Failure message={now.message} small />;
  if (now.value.shape === "groups") return <Levels name={name} column={now.value} />;
  const { numbers, dates } = now.value;
  if (!numbers.known) return <Hint>No cell has a value here.</Hint>;
  const text = (value: number) => (dates ? dateText(value) : value.toPrecision(3));
  return (
    <>
      <Histogram column={numbers} />
      <div class="ends"><em>{text(numbers.min)}</em><em>{text(numbers.max)}</em></div>
      {!dates && <div class="buttons pad"><button class="btn" disabled={view.value.plotColumns.includes(name)} onClick={() => addPlotColumn(name)}>Add to the plots</button></div>}
    </>
  );
}

function Row({ column }: { column: DescribedCellColumn }) {
  const [open, setOpen] = useState(false);
  const { name, kind, levels } = column;
  const shown = view.value.maps.some((map) => map.colour.by === "column" && map.colour.name === name);
  const said = kind === "category" || kind === "text" ? `${(levels ?? 0).toLocaleString("en")} ${levels === 1 ? "group" : KINDS[kind]}` : KINDS[kind];
  return (
    <section class="column" data-column={name}>
      <div class="cls">
        <button class="fold" aria-expanded={open} onClick={() => setOpen(!open)}><Icon name={open ? "down" : "right"} /> <b title={name}>{name}</b></button>
        <em title={column.missing ? `${column.missing.toLocaleString("en")} cells have none` : undefined}>{said}</em>
        {shown ? <span class="chip">colours</span> : <button class="paint shown" aria-label={`Colour the map by ${name}`} onClick={() => colourBy({ by: "column", name })}>colour</button>}
      </div>
      {open && <Content name={name} />}
    </section>
  );
}

export function CellColumns() {
  const [wanted, setWanted] = useState("");
  const now = cellColumns.value;
  if (now.state === "loading") return <Waiting text="Reading the columns" />;
  if (now.state === "failed") return <Failure message={now.message} small />;
  const found = now.value.filter((column) => column.name.toLowerCase().includes(wanted.trim().toLowerCase()));
  return (
    <>
      <h4>Columns of the file <span>{now.value.length.toLocaleString("en")}</span></h4>
      {now.value.length > MANY_COLUMNS && <input type="search" class="find whole" placeholder="Find a column" aria-label="Find a column" value={wanted} onInput={(event) => setWanted(event.currentTarget.value)} />}
      {found.map((column) => <Row key={column.name} column={column} />)}
      {!found.length && <Hint>{now.value.length ? `No column has “${wanted.slice(0, 60)}” in its name.` : "The file has no other columns of cells."}</Hint>}
    </>
  );
}
