// The classes and their sets: what colours the map, what can be selected, compared, hidden, changed.
import { useRef, useState } from "preact/hooks";
import { maskOf } from "../data/bitmap";
import { visible } from "../map/labels";
import { groupColours } from "../map/palette";
import { assign, hoveredSet, saveSelection, select, selectedCount, selection, useHoveredSet } from "../state/selection";
import { colourBy, toggleHidden, update, view } from "../state/view";
import { Icon, IconButton } from "../ui/icons";
import { Menu, MenuItem } from "../ui/Menu";
import { useRoving } from "../ui/rove";
import { Swatch } from "../ui/Swatch";
import { Algebra } from "./Algebra";
import { colourSet, deleteClass, deleteSet, moveSet, renameSet } from "./edit";
import { classes, findSet, idCount, type CellClass, type CellSet } from "./model";

/** More rows would slow down the page; the search finds the others. */
const MAX_ROWS = 300;

function SetMenu({ set, rename, close }: { set: CellSet; rename: () => void; close: () => void }) {
  const siblings = findSet(set.key)?.parent.children ?? [];
  const at = siblings.findIndex((item) => item.key === set.key);
  const side = { key: set.key, name: set.name };
  const act = (what: () => unknown) => () => (close(), void what());
  return (
    <>
      <MenuItem onClick={act(() => assign("a", side))}>Compare as A</MenuItem>
      <MenuItem onClick={act(() => assign("b", side))}>Compare as B</MenuItem>
      <MenuItem onClick={act(() => toggleHidden(set.key))}>{view.value.hidden.includes(set.key) ? "Show" : "Hide"} its cells</MenuItem>
      <MenuItem onClick={act(rename)}>Rename</MenuItem>
      <MenuItem disabled={at < 1} onClick={act(() => moveSet(set.key, siblings[at - 1].key))}>Move up</MenuItem>
      <MenuItem disabled={at === siblings.length - 1} onClick={act(() => moveSet(set.key, siblings[at + 2]?.key ?? null))}>Move down</MenuItem>
      <label class="item colour">Colour <input type="color" value={set.color ?? "#888888"} onChange={(event) => (close(), void colourSet(set.key, event.currentTarget.value))} /></label>
      <MenuItem onClick={act(() => deleteSet(set.key))}>Delete</MenuItem>
    </>
  );
}

/** A name begins to be changed as a whole. */
function wholly(element: HTMLInputElement | null): void {
  element?.focus();
  element?.select();
}

function letters(key: string): string {
  const { a, b } = view.value;
  return `${a?.key === key ? "A" : ""}${b.key === key ? "B" : ""}`;
}

function Row({ set, color }: { set: CellSet; color: string }) {
  const [editing, setEditing] = useState(false);
  const byKey = useRef(false);
  const comeBack = (element: HTMLButtonElement | null) => {
    if (!element || !byKey.current) return;
    byKey.current = false;
    element.focus();
  };
  const hidden = view.value.hidden.includes(set.key);
  const mark = letters(set.key);
  const hover = useHoveredSet(set.key);
  const classNames = ["set", hidden && "hidden", mark && "sel", hoveredSet.value === set.key && "lit"].filter(Boolean).join(" ");
  return (
    <div
      class={classNames} data-set={set.key} draggable={!editing}
      onDragStart={(event) => event.dataTransfer?.setData("text/x-cell-set", set.key)}
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => (event.preventDefault(), void moveSet(event.dataTransfer?.getData("text/x-cell-set") ?? "", set.key))}
      {...hover}
    >
      <Swatch color={color} />
      {editing ? (
        <input
          class="rename" aria-label={`New name of ${set.name}`} defaultValue={set.name} ref={wholly}
          onBlur={(event) => (setEditing(false), void renameSet(set.key, event.currentTarget.value))}
          onKeyDown={(event) => {
            event.stopPropagation();
            byKey.current = event.key === "Enter" || event.key === "Escape";
            if (event.key === "Enter") event.currentTarget.blur();
            if (event.key === "Escape") setEditing(false);
          }}
        />
      ) : (
        <button class="name" title={set.name} onClick={() => select(maskOf(set.cellIds, idCount.value))} onDblClick={() => setEditing(true)} onKeyDown={(event) => event.key === "F2" && setEditing(true)} ref={comeBack}>{visible(set.name)}</button>
      )}
      <u>{mark}</u>
      <em>{set.cellIds.length.toLocaleString("en")}</em>
      <Menu kind="ib small" title={`What to do with ${set.name}`} label={<Icon name="more" />}>
        {(close) => <SetMenu set={set} rename={() => setEditing(true)} close={close} />}
      </Menu>
    </div>
  );
}

function ClassRows({ item }: { item: CellClass }) {
  const open = view.value.open.includes(item.key);
  const [wanted, setWanted] = useState("");
  const coloured = view.value.maps.some((map) => map.colour.by === "class" && map.colour.key === item.key);
  const colors = groupColours(item.children.map((child) => child.color), view.value.palette === "own");
  const toggle = () => update({ open: open ? view.value.open.filter((key) => key !== item.key) : [...view.value.open, item.key] });
  const many = item.children.length > 20;
  const found = open ? [...item.children.keys()].filter((i) => !wanted || item.children[i].name.toLowerCase().includes(wanted.toLowerCase())) : [];
  return (
    <section class="class" data-class={item.key}>
      <div class="cls">
        <button class="fold" aria-expanded={open} onClick={toggle}><Icon name={open ? "down" : "right"} /> <b title={item.name}>{visible(item.name)}</b></button>
        {coloured ? <span class="chip">colours</span> : (
          <>
            <button class="paint" title={`Colour the map by ${item.name}`} disabled={!item.children.length} onClick={() => colourBy({ by: "class", key: item.key })}>colour</button>
            <em>{item.children.length.toLocaleString("en")}</em>
          </>
        )}
        <Menu kind="ib small" title={`What to do with ${item.name}`} label={<Icon name="more" />}>
          {(close) => (
            <>
              <MenuItem onClick={() => (close(), colourBy({ by: "class", key: item.key }))}>Colour the map</MenuItem>
              <MenuItem onClick={() => (close(), update({ groupBy: item.key, right: "plots" }))}>Group plots by it</MenuItem>
              <MenuItem onClick={() => (close(), void deleteClass(item.key))}>Delete the class</MenuItem>
            </>
          )}
        </Menu>
      </div>
      {open && many && <input type="search" class="find" placeholder={`Find among ${item.children.length.toLocaleString("en")}`} aria-label={`Find a set of ${item.name}`} value={wanted} onInput={(event) => setWanted(event.currentTarget.value)} />}
      {found.slice(0, MAX_ROWS).map((i) => <Row key={item.children[i].key} set={item.children[i]} color={colors[i]} />)}
      {found.length > MAX_ROWS && <p class="hint">and {(found.length - MAX_ROWS).toLocaleString("en")} more, which the search above finds</p>}
      {open && !item.children.length && <p class="hint">Select cells on the map and press <kbd>N</kbd>: they become a set here.</p>}
    </section>
  );
}

export function SetsPanel() {
  const list = useRoving<HTMLDivElement>(".cls, .set");
  return (
    <div class="panel">
      <div class="scroll" aria-label="Cell sets" ref={list}>
        {classes.value.map((item) => <ClassRows key={item.key} item={item} />)}
        <Algebra />
      </div>
      {/* below the list, so that a selection moves no row under the pointer */}
      {selection.value && (
        <div class="selected">
          <span><b>{selectedCount.value.toLocaleString("en")}</b> selected</span>
          <button class="btn" onClick={() => void saveSelection()}>Make a set <kbd>N</kbd></button>
          <IconButton name="close" label="Select nothing (Escape)" onClick={() => select(null)} />
        </div>
      )}
    </div>
  );
}
