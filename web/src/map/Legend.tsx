// What the colours mean, with counts; a click hides, a double click isolates.
import { useState } from "preact/hooks";
import { dark } from "../state/theme";
import { useHoveredSet } from "../state/selection";
import { toggleHidden, update, view } from "../state/view";
import { useRoving } from "../ui/rove";
import { Swatch } from "../ui/Swatch";
import { shortened, visible } from "./labels";
import type { Group, Paint } from "./paint";
import { BLEND, rampOf } from "./palette";

const COLLAPSED = 14;
/** More rows would slow down the page; the search finds the others. */
const MAX_ROWS = 300;
const format = (value: number) => (Number.isInteger(value) ? String(value) : value.toPrecision(3));

function isolate(groups: readonly Group[], key: string): void {
  const others = groups.filter((group) => group.key !== key).map((group) => group.key);
  const alone = others.every((other) => view.value.hidden.includes(other)) && !view.value.hidden.includes(key);
  const elsewhere = view.value.hidden.filter((other) => !groups.some((group) => group.key === other));
  update({ hidden: alone ? elsewhere : [...elsewhere, ...others] });
}

function Row({ group, groups }: { group: Group; groups: readonly Group[] }) {
  const hidden = view.value.hidden.includes(group.key);
  const hover = useHoveredSet(group.key);
  return (
    <button
      class={`row ${hidden ? "hidden" : ""}`}
      aria-pressed={!hidden}
      title={`${group.name}: ${group.count.toLocaleString("en")} cells. Click hides or shows, double click (or with Shift) shows it alone.`}
      onClick={(event) => (event.detail > 1 || event.shiftKey ? isolate(groups, group.key) : toggleHidden(group.key))}
      {...hover}
    >
      <Swatch color={group.color} round />
      <span class="name">{visible(group.name)}</span>
      <em>{group.count.toLocaleString("en")}</em>
    </button>
  );
}

function Groups({ title, groups }: { title: string; groups: readonly Group[] }) {
  const [whole, setWhole] = useState(false);
  const [wanted, setWanted] = useState("");
  const rows = useRoving<HTMLDivElement>(".row");
  const many = groups.length > COLLAPSED;
  const found = wanted ? groups.filter((group) => group.name.toLowerCase().includes(wanted.toLowerCase())) : groups;
  const shown = found.slice(0, many && !whole && !wanted ? COLLAPSED : MAX_ROWS);
  const more = groups.length > MAX_ROWS ? `Show ${MAX_ROWS} of ${groups.length.toLocaleString("en")}` : `Show all ${groups.length}`;
  const anyHidden = groups.some((group) => view.value.hidden.includes(group.key));
  return (
    <>
      {/* always there, so that a first click moves no row under the second */}
      <div class="head">
        <em>{title}</em>
        <button class={anyHidden ? "more" : "more unseen"} disabled={!anyHidden} onClick={() => update({ hidden: view.value.hidden.filter((key) => !groups.some((group) => group.key === key)) })}>show all</button>
      </div>
      {many && <input type="search" placeholder="Find a group" aria-label="Find a group in the legend" value={wanted} onInput={(event) => setWanted(event.currentTarget.value)} />}
      <div class="rows" ref={rows}>{shown.map((group) => <Row key={group.key} group={group} groups={groups} />)}</div>
      {many && !wanted && (
        <button class="more" onClick={() => setWhole(!whole)}>
          {whole ? "Show fewer" : more}
        </button>
      )}
    </>
  );
}

function Ramp({ stops }: { stops: readonly string[] }) {
  return <div class="ramp" style={{ background: `linear-gradient(90deg,${stops.join(",")})` }} />;
}

function css([r, g, b]: readonly number[]): string {
  return `rgb(${r},${g},${b})`;
}

export function Legend({ paint }: { paint: Paint }) {
  if (paint.kind === "plain") return null;
  const base = rampOf("zero", dark.value)[0];
  return (
    <div class="pill legend" role="group" aria-label={`Legend: ${paint.title}`}>
      {paint.kind === "groups" && <Groups title={shortened(paint.title, 24)} groups={paint.groups} />}
      {paint.kind === "numbers" && (
        <>
          <div class="head"><b class={paint.unit === "log-normalised" ? "gene" : ""}>{paint.title}</b><em>{paint.unit}</em></div>
          <Ramp stops={rampOf(paint.ramp, dark.value)} />
          <div class="ends"><em>{paint.ends?.[0] ?? format(paint.min)}</em><em>{paint.ends?.[1] ?? format(paint.max)}</em></div>
          {paint.said && <div><em>{paint.said}</em></div>}
        </>
      )}
      {paint.kind === "blend" && (
        <>
          {([0, 1] as const).map((i) => (
            <div key={i} class="blend">
              <b class="gene">{paint.names[i]}</b>
              <Ramp stops={[base, css(i ? BLEND.second : BLEND.first)]} />
              <em>{format(paint.max[i])}</em>
            </div>
          ))}
          <div><em>both: {dark.value ? "white" : "near black"}</em></div>
        </>
      )}
    </div>
  );
}
