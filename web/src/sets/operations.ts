// The operations that a change of cell sets sends to the worker. A list that is applied twice has the effect of one,
// and names only the sets that differ: what another tab did to other sets stays.
import type { CellClass, CellSet } from "./model";

const REMOVE = { $remove: true };

function at(key: string, value: object): object {
  return { $match: { query: `$[?(@.key == ${JSON.stringify(key)})]`, value } };
}

/** Fields to overwrite where only they differ; null where more differs. */
function fieldsThatDiffer(before: CellSet | CellClass, after: CellSet | CellClass): Record<string, unknown> | null {
  const one = before as unknown as Record<string, unknown>;
  const two = after as unknown as Record<string, unknown>;
  if (Object.keys(one).some((name) => !(name in two))) return null;
  const found = Object.entries(two).filter(([name, value]) => name !== "children" && one[name] !== value);
  return found.some(([, value]) => typeof value === "object" && value !== null) ? null : Object.fromEntries(found);
}

/** Returns the keys that keep their order: the longest rising run of their earlier places. All others were moved. */
function unmoved(before: ReadonlyMap<string, number>, after: readonly { readonly key: string }[]): Set<string> {
  const tails: string[] = [];
  const previous = new Map<string, string | undefined>();
  const place = (key: string) => before.get(key) as number;
  for (const { key } of after) {
    if (!before.has(key)) continue;
    let low = 0;
    for (let high = tails.length; low < high; ) {
      const middle = (low + high) >> 1;
      if (place(tails[middle]) < place(key)) low = middle + 1;
      else high = middle;
    }
    previous.set(key, tails[low - 1]);
    tails[low] = key;
  }
  const kept = new Set<string>();
  for (let key: string | undefined = tails[tails.length - 1]; key !== undefined; key = previous.get(key)) kept.add(key);
  return kept;
}

type Difference<T> = (before: T, after: T) => object | null;

/** Removes what is gone or moved, then inserts and changes in the new order. */
function between<T extends { readonly key: string }>(before: readonly T[], after: readonly T[], difference: Difference<T>): object[] {
  const places = new Map(before.map((item, place) => [item.key, place]));
  const stay = unmoved(places, after);
  const out: object[] = [];
  const changed: object[] = [];
  after.forEach((item, index) => {
    const known = places.get(item.key);
    const earlier = known !== undefined && stay.has(item.key) ? before[known] : null;
    if (earlier === item) return;
    const patch = earlier && difference(earlier, item);
    if (patch && !Object.keys(patch).length) return;
    if (patch) return void changed.push(at(item.key, patch));
    // removed first even where it is new: the worker may have applied an earlier list whose answer was lost
    out.push(at(item.key, REMOVE));
    changed.push({ $insert: { index, value: item } });
  });
  const remaining = new Set(after.map((item) => item.key));
  for (const item of before) if (!remaining.has(item.key)) out.push(at(item.key, REMOVE));
  return [...out, ...changed];
}

function classDifference(before: CellClass, after: CellClass): object | null {
  const fields = fieldsThatDiffer(before, after);
  const children = between(before.children, after.children, fieldsThatDiffer);
  // a class whose sets are nearly all others is another class: it travels whole
  if (!fields || children.length > after.children.length + 1) return null;
  return children.length ? { ...fields, children } : fields;
}

/** Operations that turn one list of classes into another; objects that are the same are not looked into. */
export function operationsBetween(before: readonly CellClass[], after: readonly CellClass[]): object[] {
  return between(before, after, classDifference);
}
