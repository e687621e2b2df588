// A against B: the two sides, the method, the result.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { csvOf, fileName, saveFigure, saveText } from "../charts/save";
import { assign, sideFromSelection, swapSides } from "../state/selection";
import { REST, update, view, type CompareMode, type Side } from "../state/view";
import { shortened } from "../map/labels";
import { Segments } from "../ui/Fields";
import { Failure, Hint, Waiting } from "../ui/States";
import { facts } from "../wire/door";
import { batchClass, compare, comparison, filters, isKnown, showOfBatch, sideSize, sorting, type Compared } from "./compare";
import { GeneTable } from "./GeneTable";
import { exported, rowsOf } from "./table";
import { Volcano } from "./Volcano";

const MODES: readonly (readonly [CompareMode, string])[] = [["cells", "cells"], ["samples", "samples"], ["clusters", "all clusters"]];
const MIN_CHANGE = 0.5;
const MAX_P = 0.05;

function Box({ which, side, other }: { which: "a" | "b"; side: Side | null; other: Side | null }) {
  const letter = which.toUpperCase();
  return (
    <div class={`box ${letter}`}>
      <small>{letter}</small>
      {side && isKnown(side) ? (
        <span title={side.name}><b>{side.name}</b> · {sideSize(side, other).toLocaleString("en")}</span>
      ) : (
        <span class="none">no cells yet</span>
      )}
      <span class="acts">
        <button onClick={() => assign(which, sideFromSelection())} title={`Make ${letter} of the selected cells (${letter})`}>selection</button>
        {which === "b" && side?.key !== REST.key && <button onClick={() => update({ b: REST })}>rest</button>}
      </span>
    </div>
  );
}

function took(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function Said({ result }: { result: Compared }) {
  const { mode, a, b, cellsA, cellsB, table } = result;
  const genes = table.names.length.toLocaleString("en");
  if (mode === "samples") {
    const test = table.numbers.p_val ? "limma-voom on the counts summed by sample" : "fold changes of the counts summed by sample; without replicates there is no p-value";
    return <p class="said"><b>{genes} genes</b>, {shortened(a.name, 60)} against {shortened(b.name, 60)}, {test}. {took(result.took)}.</p>;
  }
  return (
    <p class="said">
      <b>All {genes} genes</b>, every cell ({cellsA.toLocaleString("en")} against {cellsB.toLocaleString("en")}), Wilcoxon rank-sum, ties corrected. {took(result.took)}.
    </p>
  );
}

function Result({ result }: { result: Compared }) {
  const svg = useRef<SVGSVGElement | null>(null);
  const host = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const watcher = new ResizeObserver(([entry]) => setWidth(entry.contentRect.width));
    watcher.observe(host.current as HTMLElement);
    return () => watcher.disconnect();
  }, []);
  const now = filters.value;
  const name = fileName(facts.value?.experimentId ?? "", result.a.name, "against", result.b.name);
  const picked = now.picked !== null;
  const list = useMemo(() => rowsOf(result.table, now, sorting.value), [result.table, now, sorting.value]);
  return (
    <>
      {result.all.length > 0 && (
        <label class="field wide">
          <span>Set</span>
          <select value={result.shown} onChange={(event) => showOfBatch(Number(event.currentTarget.value))}>
            {result.all.map((entry, i) => <option key={entry.name} value={i} disabled={!entry.table}>{entry.name}{entry.table ? "" : " (too few cells)"}</option>)}
          </select>
        </label>
      )}
      <Said result={result} />
      <div ref={host} class="figure-host">{width > 60 && <Volcano table={result.table} width={width} height={200} svgRef={svg} />}</div>
      <div class="bar">
        <input type="search" class="grow" placeholder="Filter genes" aria-label="Filter genes" value={now.text} onInput={(event) => (filters.value = { ...now, text: event.currentTarget.value })} />
        <button class={`btn ${now.minChange ? "on" : ""}`} aria-pressed={now.minChange > 0} onClick={() => (filters.value = { ...now, minChange: now.minChange ? 0 : MIN_CHANGE })}>|log FC| &gt; {MIN_CHANGE}</button>
        {result.table.numbers.p_val_adj && <button class={`btn ${now.maxP === null ? "" : "on"}`} aria-pressed={now.maxP !== null} onClick={() => (filters.value = { ...now, maxP: now.maxP === null ? MAX_P : null })}>adj. p &lt; {MAX_P}</button>}
      </div>
      <div class="count">
        <span role="status">{list.length === result.table.names.length ? `${list.length.toLocaleString("en")} genes` : `${list.length.toLocaleString("en")} of ${result.table.names.length.toLocaleString("en")} genes`}</span>
        {picked && <button onClick={() => (filters.value = { ...now, picked: null })}>show all, not only those picked</button>}
        <span class="buttons">
          <button class="btn" title="Save the rows below, numbers in full" onClick={() => saveText(`${name}.csv`, csvOf(exported(result.table), list), "text/csv")}>CSV</button>
          <button class="btn" title="Save the volcano plot" onClick={() => svg.current && void saveFigure(name, svg.current, "svg")}>SVG</button>
          <button class="btn" title="Save the volcano plot" onClick={() => svg.current && void saveFigure(name, svg.current, "png")}>PNG</button>
        </span>
      </div>
      {list.length ? <GeneTable table={result.table} rows={list} /> : <Hint>No gene passes the filters.</Hint>}
    </>
  );
}

export function ComparePanel() {
  const { a, b, mode } = view.value;
  const now = comparison.value;
  const batch = mode === "clusters";
  return (
    <div class="panel">
      {!batch && (
        <div class="ab">
          <Box which="a" side={a} other={null} />
          <button class="vs" title="Swap A and B" onClick={swapSides}>vs</button>
          <Box which="b" side={b} other={a} />
        </div>
      )}
      {batch && <p class="said">Each set of <b>{batchClass.value?.name ?? "a class (colour a map by one)"}</b> against the others.</p>}
      <Segments label="What is compared" value={mode} options={MODES} onChange={(value) => update({ mode: value })} />
      <div class="go">
        <button class="btn p" disabled={!batch && !a} onClick={() => void compare()}>Compare <kbd>C</kbd></button>
      </div>
      {!now && !a && <Hint>Select cells on the map (<kbd>L</kbd>) or click a cell set, press <kbd>A</kbd>, then <kbd>C</kbd>. B is every other cell until you choose it.</Hint>}
      {now?.state === "loading" && <Waiting text="Comparing" />}
      {now?.state === "failed" && <Failure message={now.message} />}
      {now?.state === "ready" && <Result result={now.value} />}
    </div>
  );
}
