// Results stored in the file: choose one, read it, download it.
import { useEffect, useState } from "preact/hooks";
import { csvOf, fileName, saveText } from "../charts/save";
import { Failure, Hint, Waiting } from "../ui/States";
import { facts } from "../wire/door";
import type { DescribedResult } from "../wire/types";
import { cellOf, loadStoredResults, storedResults, storedTable, type StoredTable } from "./stored";
import { StoredRows } from "./StoredRows";

const KINDS: Readonly<Record<DescribedResult["kind"], string>> = { tests: "tests of groups", table: "table", list: "list", values: "values" };

function save(name: string, table: StoredTable, rows: readonly number[]): void {
  const columns = Object.fromEntries(table.names.map((title, i) => [title, rows.map((row) => cellOf(table.columns[i], row))]));
  saveText(`${fileName(facts.value?.experimentId ?? "", name)}.csv`, csvOf(columns), "text/csv");
}

function Shown({ result, group }: { result: DescribedResult; group: string | null }) {
  const [wanted, setWanted] = useState("");
  const now = storedTable(result.name, group).value;
  if (now.state === "loading") return <Waiting text="Reading the result" />;
  if (now.state === "failed") return <Failure message={now.message} small />;
  const table = now.value;
  const text = wanted.trim().toLowerCase();
  const rows = Array.from({ length: table.rows }, (_, i) => i).filter((row) => !text || table.columns.some((column) => (column.kind === "text" || column.kind === "category") && String(cellOf(column, row) ?? "").toLowerCase().includes(text)));
  const parameters = Object.entries(table.parameters).map(([name, value]) => `${name} ${value}`).join(", ");
  return (
    <>
      {parameters && <p class="said" title={parameters}>{parameters.slice(0, 300)}</p>}
      <div class="bar">
        <input class="grow" type="search" placeholder="Filter rows" aria-label="Filter rows" value={wanted} onInput={(event) => setWanted(event.currentTarget.value)} />
        <button class="btn" onClick={() => save([result.name, group ?? ""].join(" "), table, rows)}>CSV</button>
      </div>
      <p class="count">{rows.length === table.rows ? "" : `${rows.length.toLocaleString("en")} of `}{table.rows.toLocaleString("en")} rows</p>
      <StoredRows table={table} rows={rows} />
    </>
  );
}

export function ResultsPanel() {
  const [chosen, setChosen] = useState("");
  const [group, setGroup] = useState("");
  useEffect(() => void loadStoredResults(), []);
  const now = storedResults.value;
  if (!now || now.state === "loading") return <div class="panel"><Waiting text="Looking for results in the file" /></div>;
  if (now.state === "failed") return <div class="panel"><Failure message={now.message} /></div>;
  if (!now.value.length) {
    return <div class="panel"><Hint>The file holds no results. This panel shows marker tables of scanpy (rank_genes_groups) and tables in the misc of Seurat objects.</Hint></div>;
  }
  const result = now.value.find((item) => item.name === chosen) ?? now.value[0];
  const own = result.groups.includes(group) ? group : (result.groups[0] ?? "");
  return (
    <div class="panel">
      <div class="form">
        <label class="field wide">
          <span>Result</span>
          <select aria-label="Result" value={result.name} onChange={(event) => setChosen(event.currentTarget.value)}>
            {now.value.map((item) => <option key={item.name} value={item.name}>{item.name}</option>)}
          </select>
        </label>
        {result.groups.length > 0 && (
          <label class="field wide">
            <span>Group</span>
            <select aria-label="Group of the result" value={own} onChange={(event) => setGroup(event.currentTarget.value)}>
              {result.groups.map((name) => <option key={name} value={name}>{name}</option>)}
            </select>
          </label>
        )}
      </div>
      <p class="said"><b>{KINDS[result.kind]}</b>, as the file holds it in {result.source}.</p>
      <Shown key={`${result.name} ${own}`} result={result} group={result.groups.length ? own : null} />
    </div>
  );
}
