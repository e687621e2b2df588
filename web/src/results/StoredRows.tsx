// The rows of a stored result: sorted by any column, only those in sight are in the page.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { knownGene } from "../data/genes";
import { pText } from "../compare/table";
import { showGene } from "../state/view";
import { cellOf, type StoredTable } from "./stored";

const ROW_PX = 24;
const SPARE_ROWS = 8;

type Value = string | number | null;

function shown(value: Value, name: string): string {
  if (value === null) return "–";
  if (typeof value === "string" || Number.isInteger(value)) return String(value);
  return /^p|pval|p_/i.test(name) ? pText(value) : Math.abs(value) >= 1e-3 && Math.abs(value) < 1e6 ? value.toPrecision(4) : value.toExponential(2);
}

function compared(a: Value, b: Value): number {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a) < String(b) ? -1 : String(a) > String(b) ? 1 : 0;
}

function sorted(table: StoredTable, rows: readonly number[], by: number, descending: boolean): readonly number[] {
  if (by < 0) return rows;
  const column = table.columns[by];
  const values = new Map(rows.map((row) => [row, cellOf(column, row)]));
  const sign = descending ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [one, two] = [values.get(a) ?? null, values.get(b) ?? null];
    if (one === null || two === null) return Number(one === null) - Number(two === null);
    return sign * compared(one, two) || a - b;
  });
}

export function StoredRows({ table, rows }: { table: StoredTable; rows: readonly number[] }) {
  const host = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(400);
  const [by, setBy] = useState(-1);
  const [descending, setDescending] = useState(false);
  useEffect(() => {
    const watcher = new ResizeObserver(([entry]) => setHeight(entry.contentRect.height));
    watcher.observe(host.current as HTMLElement);
    return () => watcher.disconnect();
  }, []);
  const order = useMemo(() => sorted(table, rows, by, descending), [table, rows.length, by, descending]);
  const begin = Math.max(0, Math.floor(top / ROW_PX) - SPARE_ROWS);
  const end = Math.min(order.length, Math.ceil((top + height) / ROW_PX) + SPARE_ROWS);
  const sort = (i: number) => (setDescending(by === i ? !descending : false), setBy(i));
  return (
    <div class="scroll table stored" ref={host} onScroll={(event) => setTop(event.currentTarget.scrollTop)} tabIndex={0} aria-label="Rows of the result">
      <table aria-rowcount={order.length + 1}>
        <thead>
          <tr>
            {table.names.map((name, i) => (
              <th key={name} scope="col" aria-sort={by === i ? (descending ? "descending" : "ascending") : "none"}>
                <button onClick={() => sort(i)} title={name}>{name}{by === i ? (descending ? " ↓" : " ↑") : ""}</button>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {begin > 0 && <tr class="space" aria-hidden="true"><td colSpan={table.names.length} style={{ height: `${begin * ROW_PX}px` }} /></tr>}
          {order.slice(begin, end).map((row, k) => (
            <tr key={row} aria-rowindex={begin + k + 2}>
              {table.names.map((name, i) => {
                const value = cellOf(table.columns[i], row);
                const gene = typeof value === "string" ? knownGene(value) : null;
                return <td key={name} title={value === null ? "missing" : String(value)}>{gene ? <button class="gene" title={`Colour the map by ${gene}`} onClick={() => showGene(gene)}>{gene}</button> : shown(value, name)}</td>;
              })}
            </tr>
          ))}
          {end < order.length && <tr class="space" aria-hidden="true"><td colSpan={table.names.length} style={{ height: `${(order.length - end) * ROW_PX}px` }} /></tr>}
        </tbody>
      </table>
    </div>
  );
}
