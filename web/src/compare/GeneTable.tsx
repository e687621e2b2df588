// All genes of a comparison: only the rows in sight are in the page.
import { useEffect, useState } from "preact/hooks";
import { hoveredGene } from "../state/selection";
import { visible } from "../map/labels";
import { activeMap, showGene, view } from "../state/view";
import { useRoving } from "../ui/rove";
import { sorting } from "./compare";
import { COLUMNS, type Table } from "./table";

const ROW_PX = 24;
const SPARE_ROWS = 8;

interface Props {
  readonly table: Table;
  readonly rows: Uint32Array;
}

function sortBy(by: string): void {
  const now = sorting.value;
  const strongestFirst = by === "logFC" || by === "auc" || by === "AveExpr" || by.startsWith("pct");
  sorting.value = now.by === by ? { by, descending: !now.descending } : { by, descending: strongestFirst };
}

function Head({ by, label, title }: { by: string; label: string; title: string }) {
  const now = sorting.value;
  const order = now.by === by ? (now.descending ? "descending" : "ascending") : "none";
  return (
    <th scope="col" aria-sort={order} title={title}>
      <button onClick={() => sortBy(by)}>
        {label}
        {order === "none" ? "" : now.descending ? " ↓" : " ↑"}
      </button>
    </th>
  );
}

function shownGenes(): ReadonlySet<string> {
  return new Set(view.value.maps.flatMap((map) => (map.colour.by === "gene" ? [map.colour.gene] : [])));
}

export function GeneTable({ table, rows }: Props) {
  const host = useRoving<HTMLDivElement>("tbody tr:not(.space)");
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(400);
  useEffect(() => {
    const element = host.current as HTMLDivElement;
    const watcher = new ResizeObserver(([entry]) => setHeight(entry.contentRect.height));
    watcher.observe(element);
    return () => watcher.disconnect();
  }, []);
  useEffect(() => {
    host.current?.scrollTo({ top: 0 });
  }, [table, sorting.value]);

  const columns = Object.keys(COLUMNS).filter((name) => name in table.numbers && !(name === "p_val" && "p_val_adj" in table.numbers));
  const begin = Math.max(0, Math.floor(top / ROW_PX) - SPARE_ROWS);
  const end = Math.min(rows.length, Math.ceil((top + height) / ROW_PX) + SPARE_ROWS);
  const lit = shownGenes();
  const colour = activeMap();
  return (
    <div class="scroll table" ref={host} onScroll={(event) => setTop(event.currentTarget.scrollTop)} aria-label="Genes">
      <table aria-rowcount={rows.length + 1} data-colour={colour?.colour.by}>
        <thead>
          <tr>
            <Head by="gene" label="Gene" title="Gene; a click colours the map by it" />
            {columns.map((name) => <Head key={name} by={name} label={COLUMNS[name].label} title={COLUMNS[name].title} />)}
          </tr>
        </thead>
        <tbody>
          {begin > 0 && <Space rows={begin} columns={columns.length + 1} />}
          {Array.from(rows.subarray(begin, end), (row, i) => (
            <tr
              key={row} aria-rowindex={begin + i + 2} class={lit.has(table.names[row]) ? "on" : hoveredGene.value === table.names[row] ? "lit" : ""}
              onClick={() => showGene(table.names[row])}
              onPointerEnter={() => (hoveredGene.value = table.names[row])}
              onPointerLeave={() => (hoveredGene.value = null)}
              onFocusIn={() => (hoveredGene.value = table.names[row])}
              onFocusOut={() => (hoveredGene.value = null)}
            >
              <th scope="row"><button class="gene" title={table.ids[row]}>{visible(table.names[row])}</button></th>
              {columns.map((name) => <td key={name} title={String(table.numbers[name][row])}>{COLUMNS[name].format(table.numbers[name][row])}</td>)}
            </tr>
          ))}
          {end < rows.length && <Space rows={rows.length - end} columns={columns.length + 1} />}
        </tbody>
      </table>
    </div>
  );
}

/** Stands for the rows that are out of sight. */
function Space({ rows, columns }: { rows: number; columns: number }) {
  return (
    <tr class="space" aria-hidden="true">
      <td colSpan={columns} style={{ height: `${rows * ROW_PX}px` }} />
    </tr>
  );
}
