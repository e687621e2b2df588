// The search over everything: genes, sets, columns, actions.
import { useEffect, useState } from "preact/hooks";
import { findGenes, geneNames } from "../data/genes";
import { cellColumns } from "../data/columns";
import { maskOf } from "../data/bitmap";
import { NUMBER_LABELS, type NumberTask } from "../data/numbers";
import { classes, idCount } from "../sets/model";
import { shortened, visible } from "../map/labels";
import { select } from "../state/selection";
import { colourBy, showGene } from "../state/view";
import { facts } from "../wire/door";
import { ACTIONS } from "./actions";
import { useModal } from "./modal";
import { palette } from "./palette-state";

interface Found {
  readonly kind: string;
  readonly text: string;
  readonly gene?: boolean;
  readonly key?: string;
  readonly run: () => unknown;
}

const MAX_EACH = 6;

function find(text: string): Found[] {
  const wanted = text.trim().toLowerCase();
  const matches = (name: string) => !wanted || name.toLowerCase().includes(wanted);
  const genes = wanted ? findGenes(wanted, MAX_EACH) : [];
  const sets = classes.value.flatMap((item) => item.children.filter((set) => wanted && matches(set.name)).map((set) => ({ item, set }))).slice(0, MAX_EACH);
  const columns = ((facts.value?.numbers ?? []) as NumberTask[]).filter((task) => matches(`Colour by ${NUMBER_LABELS[task]}`));
  const own = (cellColumns.value.state === "ready" ? cellColumns.value.value : []).filter((column) => wanted && matches(`Colour by ${column.name}`)).slice(0, MAX_EACH);
  return [
    ...genes.map((gene) => ({ kind: "gene", text: gene, gene: true, run: () => showGene(gene) })),
    ...sets.map(({ item, set }) => ({ kind: shortened(item.name, 24), text: shortened(set.name, 60), run: () => select(maskOf(set.cellIds, idCount.value)) })),
    ...classes.value.filter((item) => item.children.length && matches(`Colour by ${item.name}`)).slice(0, MAX_EACH).map((item) => ({ kind: "cell sets", text: `Colour by ${shortened(item.name, 50)}`, run: () => colourBy({ by: "class", key: item.key }) })),
    ...columns.map((task) => ({ kind: "column", text: `Colour by ${NUMBER_LABELS[task]}`, run: () => colourBy({ by: "number", task }) })),
    ...own.map((column) => ({ kind: "column", text: `Colour by ${shortened(column.name, 50)}`, run: () => colourBy({ by: "column", name: column.name }) })),
    ...ACTIONS.filter((action) => matches(action.name)).map((action) => ({ kind: "action", text: action.name, key: action.key, run: action.run })),
  ];
}

export function Palette() {
  const text = palette.value;
  const [at, setAt] = useState(0);
  const host = useModal<HTMLDivElement>(text !== null);
  // Enter came before the genes were listed: the first of them is chosen when they are
  const [isAwaited, setAwaited] = useState(false);
  const found = text === null ? [] : find(text).slice(0, 30);
  const close = () => (palette.value = null);
  const choose = (item: Found | undefined) => {
    if (!item) {
      setAwaited(geneNames.value === null);
      return;
    }
    close();
    void item.run();
  };
  useEffect(() => setAt(0), [text]);
  useEffect(() => {
    if (isAwaited && found[0]) choose(found[0]);
  });
  const search = (words: string) => {
    setAwaited(false);
    palette.value = words;
  };
  if (text === null) return null;
  const keys = (event: KeyboardEvent) => {
    if (event.key === "Escape") close();
    else if (event.key === "ArrowDown") setAt(Math.min(found.length - 1, at + 1));
    else if (event.key === "ArrowUp") setAt(Math.max(0, at - 1));
    else if (event.key === "Enter") choose(found[at]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div class="veil" onClick={close}>
      <div class="pill palette" role="dialog" aria-modal="true" aria-label="Search" ref={host} onClick={(event) => event.stopPropagation()} onKeyDown={keys}>
        <input
          type="text" role="combobox" list={undefined} aria-expanded="true" aria-controls="found" aria-activedescendant={`found-${at}`} aria-label="Genes, sets, columns, actions"
          placeholder="Genes, sets, columns, actions" value={text} onInput={(event) => search(event.currentTarget.value)}
        />
        <div id="found" role="listbox" aria-label="Found">
          {found.map((item, i) => (
            <div key={`${item.kind} ${item.text}`} id={`found-${i}`} role="option" aria-selected={i === at} class={i === at ? "on" : ""} onPointerEnter={() => setAt(i)} onClick={() => choose(item)}>
              <span class={item.gene ? "gene" : ""}>{visible(item.text)}</span>
              <em>{item.kind}</em>
              {item.key && <kbd>{item.key.replace("shift+", "Shift ").replace("ctrl+", "Ctrl ")}</kbd>}
            </div>
          ))}
          {!found.length && <p class="hint">{geneNames.value ? `Nothing is called “${text.slice(0, 60)}”.` : "The genes are being listed …"}</p>}
        </div>
      </div>
    </div>
  );
}
