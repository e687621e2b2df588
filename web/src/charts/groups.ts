// The groups that plots show: the sets of a class, without those that are hidden; of very many the largest, or those of a name.
import { groupColours } from "../map/palette";
import { classes, findClass, likeliestClass, type CellClass } from "../sets/model";
import { EMPTY_VIEW, view } from "../state/view";
import type { Grouping } from "../wire/types";

export interface PlotGroup {
  readonly key: string;
  readonly name: string;
  readonly color: string;
  readonly cells: readonly number[];
}

export interface PlotGroups {
  readonly shown: readonly PlotGroup[];
  /** Those that are neither hidden nor shown. */
  readonly others: readonly PlotGroup[];
  /** What the worker is asked by. */
  readonly asked: Grouping;
}

/** The class that plots group by: the chosen one, else the one that colours a map, else types or clusters. */
export function plotClass(): CellClass | null {
  const chosen = findClass(view.value.groupBy);
  if (chosen) return chosen;
  const map = view.value.maps.find((item) => item.colour.by === "class");
  const coloured = map?.colour.by === "class" ? findClass(map.colour.key) : undefined;
  return coloured ?? likeliestClass() ?? classes.value.find((item) => item.children.length) ?? null;
}

/** Whether a class has more sets than a plot shows where nobody says how many. */
export function hasMany(item: CellClass): boolean {
  return item.children.length > EMPTY_VIEW.mostGroups;
}

/** How many sets of a class a plot shows. */
export function mostOf(item: CellClass): number {
  return hasMany(item) ? view.value.mostGroups : item.children.length;
}

/** Splits into the largest and the others, both in the order that they have. */
export function largest<T>(items: readonly T[], most: number, size: (item: T) => number): [T[], T[]] {
  if (items.length <= most) return [[...items], []];
  const ranked = [...items.keys()].sort((a, b) => size(items[b]) - size(items[a]) || a - b);
  const kept = new Set(ranked.slice(0, most));
  return [items.filter((_, i) => kept.has(i)), items.filter((_, i) => !kept.has(i))];
}

export function plotGroups(item: CellClass): PlotGroups {
  const { hidden, groupsNamed, palette } = view.value;
  const named = hasMany(item) ? groupsNamed.trim().toLowerCase() : "";
  const colors = groupColours(item.children.map((child) => child.color), palette === "own");
  const out = new Set(hidden);
  const all = item.children
    .map((child, i) => ({ key: child.key, name: child.name, color: colors[i], cells: child.cellIds }))
    .filter((group) => !out.has(group.key) && group.cells.length);
  const [wanted, unnamed] = [all.filter(({ name }) => name.toLowerCase().includes(named)), all.filter(({ name }) => !name.toLowerCase().includes(named))];
  const [shown, smaller] = largest(wanted, mostOf(item), (group) => group.cells.length);
  const others = [...smaller, ...unnamed];
  return { shown, others, asked: others.length ? { sets: shown.map((group) => group.key) } : { class: item.key } };
}
