// The groups that plots show: the sets of a class, without those that are hidden.
import { groupColours } from "../map/palette";
import { classes, findClass, likeliestClass, type CellClass } from "../sets/model";
import { view } from "../state/view";

export interface PlotGroup {
  readonly key: string;
  readonly name: string;
  readonly color: string;
  readonly cells: readonly number[];
}

/** The class that plots group by: the chosen one, else the one that colours a map, else types or clusters. */
export function plotClass(): CellClass | null {
  const chosen = findClass(view.value.groupBy);
  if (chosen) return chosen;
  const map = view.value.maps.find((item) => item.colour.by === "class");
  const coloured = map?.colour.by === "class" ? findClass(map.colour.key) : undefined;
  return coloured ?? likeliestClass() ?? classes.value.find((item) => item.children.length) ?? null;
}

export function plotGroups(item: CellClass): PlotGroup[] {
  const colors = groupColours(item.children.map((child) => child.color), view.value.palette === "own");
  return item.children
    .map((child, i) => ({ key: child.key, name: child.name, color: colors[i], cells: child.cellIds }))
    .filter((group) => !view.value.hidden.includes(group.key) && group.cells.length);
}
