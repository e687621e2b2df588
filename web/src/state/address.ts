// The view as the part of the address behind the #, short and readable, and as a session file that holds all of it.
import { effect } from "@preact/signals";
import { knownGene } from "../data/genes";
import { knownColumn } from "../data/columns";
import { NUMBER_LABELS, type NumberTask } from "../data/numbers";
import type { MapSource } from "../data/points";
import { findClass, findSet, idCount } from "../sets/model";
import { say } from "../ui/notes";
import { facts } from "../wire/door";
import { shortened } from "../map/labels";
import { select, selection } from "./selection";
import { isBitmap, keyOf, maskOfKey } from "../data/bitmap";
import { EMPTY_VIEW, MAX_GROUPS, MAX_MAPS, REST, update, view, type Colouring, type CompareMode, type LeftTab, type MapState, type PlotKind, type RightTab, type Side, type View } from "./view";

const MAX_ADDRESS = 6000;

/** Writes parts between tildes, whatever characters they hold. */
function joined(...parts: readonly (string | number)[]): string {
  return parts.map((part) => encodeURIComponent(part).replaceAll("~", "%7E")).join("~");
}

/** Splits them again; a malformed text has no parts. */
function parted(text: string): string[] {
  try {
    return text.split("~").map(decodeURIComponent);
  } catch {
    return [];
  }
}

function sourceText(source: MapSource): string {
  switch (source.kind) {
    case "saved":
      return joined("saved", source.name);
    case "umap":
      return joined("umap", source.minimumDistance, source.distanceMetric);
    case "tsne":
      return joined("tsne", source.perplexity, source.learningRate);
    case "tissue":
      return joined("tissue", source.image);
    case "subset":
      return joined("subset", source.type, source.components, source.cells, source.name);
  }
}

function sourceOf(text: string): MapSource | null {
  const [kind, one, two, three, four] = parted(text);
  if (kind === "subset") return subsetOf(one, two, three, four);
  if (kind === "saved" && one) return facts.value?.reductions.some((item) => item.name === one) ? { kind, name: one } : null;
  if (kind === "umap") return { kind, minimumDistance: Number(one) || 0, distanceMetric: two === "euclidean" ? two : "cosine" };
  if (kind === "tsne" && Number(one) > 0 && Number(two) > 0) return { kind, perplexity: Number(one), learningRate: Number(two) };
  return kind === "tissue" && facts.value?.tissues[Number(one)] ? { kind, image: Number(one) } : null;
}

function subsetOf(type: string, components: string, cells: string, name: string): MapSource | null {
  const known = isBitmap(cells ?? "") || findSet(cells ?? "");
  if (!known || !(type === "umap" || type === "tsne") || !(components === "own" || components === "saved")) return null;
  return { kind: "subset", type, components, cells, name: name || "selection" };
}

function colourText(colour: Colouring): string {
  switch (colour.by) {
    case "class":
      return joined("class", colour.key);
    case "gene":
      return joined("gene", colour.gene, ...(colour.with ? [colour.with] : []));
    case "number":
      return joined("number", colour.task);
    case "score":
    case "column":
      return joined(colour.by, colour.name);
    default:
      return colour.by;
  }
}

/** Says what is not there, as briefly as names allow. */
function named(what: string, name: string): string {
  return `the ${what} “${shortened(name, 40)}”`;
}

/** Reads a colouring; what is unknown here is named in `unknown` and left out. */
function colourOfText(text: string, unknown: string[]): Colouring | null {
  const [by, one, two] = parted(text);
  if (by === "class") {
    if (findClass(one)) return { by, key: one };
    unknown.push(named("cell sets", one));
    return null;
  }
  if (by === "gene") {
    const gene = knownGene(one ?? "");
    const other = two ? knownGene(two) : undefined;
    if (gene === null) unknown.push(named("gene", one));
    if (other === null) unknown.push(named("gene", two));
    return gene === null ? null : { by, gene, ...(other ? { with: other } : {}) };
  }
  if (by === "number" && one in NUMBER_LABELS) return { by, task: one as NumberTask };
  if (by === "column" && one) {
    if (knownColumn(one)) return { by, name: one };
    unknown.push(named("column", one));
    return null;
  }
  if (by === "score" && view.value.geneSets.some((item) => item.name === one)) return { by, name: one };
  return by === "plain" ? { by } : null;
}

function sideText(side: Side): string {
  return side.key === REST.key ? "rest" : `${side.key}~${side.name}`;
}

function sideOf(text: string | null, unknown: string[]): Side | null {
  if (!text) return null;
  if (text === "rest") return REST;
  const at = text.indexOf("~");
  const key = at < 0 ? text : text.slice(0, at);
  const found = findSet(key)?.set ?? findClass(key);
  if (found) return { key, name: found.name };
  if (isBitmap(key)) return { key, name: at < 0 ? "selection" : text.slice(at + 1) };
  unknown.push("a cell set that was compared");
  return null;
}

/** Reads one gene, or several between commas: names may hold commas themselves. */
function plottedGenes(text: string, unknown: string[]): string[] {
  const whole = knownGene(text);
  const names = whole || !text ? [] : text.split(",");
  unknown.push(...names.filter((name) => !knownGene(name)).map((name) => named("gene", name)));
  return whole ? [whole] : names.flatMap((name) => knownGene(name) ?? []);
}

/** Returns the view as text for the address, without a selection that is too large for an address. */
export function addressOf(now: View, selected: string | null, longest = MAX_ADDRESS): string {
  const parts = new URLSearchParams();
  const maps = now.maps.filter((map) => map.source.kind !== "subset" || map.source.cells.length < longest / 2);
  for (const map of maps) parts.append("map", `${sourceText(map.source)}|${colourText(map.colour)}`);
  if (now.a) parts.set("a", sideText(now.a));
  if (now.b.key !== REST.key) parts.set("b", sideText(now.b));
  const plain: readonly (keyof View)[] = ["left", "right", "mode", "plot", "groupBy", "mostGroups", "groupsNamed"];
  for (const name of plain) if (now[name] !== EMPTY_VIEW[name]) parts.set(name, String(now[name]));
  for (const gene of now.plotGenes) parts.append("genes", gene);
  for (const name of now.plotColumns) parts.append("plotColumn", name);
  for (const key of now.hidden) parts.append("hide", key);
  if (selected) parts.set("selected", selected);
  const text = parts.toString();
  if (text.length <= longest) return text;
  for (const name of ["selected", "a", "b", "hide", "genes", "plotColumn", "map"]) if (parts.toString().length > longest) parts.delete(name);
  return parts.toString();
}

const PARTS = new Set([
  "map", "a", "b", "left", "right", "mode", "plot", "groupBy", "mostGroups", "groupsNamed", "genes", "plotColumn", "hide", "selected",
]);

/** Opens a view from an address; returns a sentence that names what does not exist here. */
export function openAddress(text: string): boolean {
  const parts = new URLSearchParams(text);
  const unknown: string[] = [];
  const maps: MapState[] = [];
  for (const part of parts.getAll("map").slice(0, MAX_MAPS)) {
    const [source, colour] = part.split("|");
    const found = sourceOf(source);
    if (!found) unknown.push("a map");
    else maps.push({ id: maps.length + 1, source: found, colour: colourOfText(colour ?? "", unknown) ?? view.value.maps[0]?.colour ?? { by: "plain" } });
  }
  const choices = {
    left: ["sets", "columns", "genes", "scores"], right: ["compare", "plots", "clusters", "types", "trajectory", "tissue", "results"],
    mode: ["cells", "samples", "clusters"], plot: ["violin", "dots", "heatmap", "histogram", "composition", "scatter"],
  };
  const choice = <T extends string>(name: keyof typeof choices, other: T): T => {
    const wanted = parts.get(name);
    if (wanted === null) return other;
    if (choices[name].includes(wanted)) return wanted as T;
    unknown.push(named(`choice ${name}`, wanted));
    return other;
  };
  const groupBy = parts.get("groupBy") ?? "";
  if (groupBy && !findClass(groupBy)) unknown.push("the groups of a plot");
  unknown.push(...parts.getAll("plotColumn").filter((name) => !knownColumn(name)).map((name) => named("column", name)));
  update({
    ...(maps.length ? { maps, active: maps[0].id } : {}),
    a: sideOf(parts.get("a"), unknown),
    b: sideOf(parts.get("b"), unknown) ?? REST,
    left: choice<LeftTab>("left", "sets"), right: choice<RightTab>("right", "compare"),
    mode: choice<CompareMode>("mode", "cells"), plot: choice<PlotKind>("plot", "violin"),
    groupBy: findClass(groupBy) ? groupBy : "",
    mostGroups: Math.min(MAX_GROUPS, Math.max(2, Math.floor(Number(parts.get("mostGroups"))) || EMPTY_VIEW.mostGroups)),
    groupsNamed: parts.get("groupsNamed") ?? "",
    plotGenes: parts.getAll("genes").flatMap((text) => plottedGenes(text, unknown)),
    hidden: parts.getAll("hide").filter((key) => key.startsWith("column:") || findSet(key)),
    plotColumns: parts.getAll("plotColumn").filter((name) => knownColumn(name)),
  });
  const selected = parts.get("selected");
  if (selected && isBitmap(selected)) openSelection(selected);
  const strange = [...parts.keys()].filter((name) => !PARTS.has(name));
  if (strange.length) say(`The address has a part that cannot be read (${named("part", strange[0])}); the rest of the view is shown.`, "bad");
  if (unknown.length) say(`This experiment does not have ${[...new Set(unknown)].slice(0, 4).join(", ")}; the rest of the view is shown.`, "bad");
  return maps.length > 0;
}

function openSelection(key: string): void {
  try {
    select(maskOfKey(key, idCount.value));
  } catch {
    say("The selection in the address cannot be read; it was left out.", "bad");
  }
}

/** The page's own address in full: in a frame of a notebook, addresses begin elsewhere than the page. */
function here(): string {
  return location.href.split("#")[0];
}

/** Keeps the address in step with the view. */
export function followView(): void {
  let timer = 0;
  effect(() => {
    const text = addressOf(view.value, selection.value ? keyOf(selection.value.mask) : null);
    clearTimeout(timer);
    timer = window.setTimeout(() => history.replaceState(null, "", `${here()}#${text}`), 150);
  });
  window.addEventListener("hashchange", () => openAddress(location.hash.slice(1)));
}
