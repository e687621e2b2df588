// Changes of cell sets, each with what takes it back.
import { computed, signal } from "@preact/signals";
import { patchCellSets } from "../wire/door";
import { failureOf } from "../data/loaded";
import { say } from "../ui/notes";
import { classes, loadCellSets, type CellClass } from "./model";

interface Change {
  readonly label: string;
  readonly forward: object[];
  readonly back: object[];
}

const done = signal<readonly Change[]>([]);
const undone = signal<readonly Change[]>([]);
const MAX_CHANGES = 50;

/** When the cell sets were saved last, null where nothing was changed yet. */
export const savedAt = signal<number | null>(null);
export const undoLabel = computed(() => done.value[done.value.length - 1]?.label ?? null);
export const redoLabel = computed(() => undone.value[undone.value.length - 1]?.label ?? null);

function query(key: string): string {
  return `$[?(@.key == ${JSON.stringify(key)})]`;
}

/** Operations that turn one list of classes into another: classes that differ are taken out and put in again. */
export function operationsBetween(before: readonly CellClass[], after: readonly CellClass[]): object[] {
  const same = new Map(before.map((item) => [item.key, item]));
  const removed = before.filter((item) => !after.some((other) => other === item || other.key === item.key));
  const operations: object[] = removed.map((item) => ({ $match: { query: query(item.key), value: { $remove: true } } }));
  after.forEach((item, index) => {
    if (same.get(item.key) === item) return;
    if (same.has(item.key)) operations.push({ $match: { query: query(item.key), value: { $remove: true } } });
    operations.push({ $insert: { index, value: item } });
  });
  return operations;
}

async function send(operations: object[]): Promise<boolean> {
  try {
    await patchCellSets(operations);
    await loadCellSets();
    savedAt.value = Date.now();
    return true;
  } catch (error) {
    say(failureOf(error).message, "bad");
    await loadCellSets().catch(() => undefined);
    return false;
  }
}

function remember(change: Change): void {
  done.value = [...done.value.slice(-MAX_CHANGES + 1), change];
  undone.value = [];
}

/** Changes the classes, on the worker first. */
export async function change(label: string, after: readonly CellClass[]): Promise<boolean> {
  const before = classes.value;
  const forward = operationsBetween(before, after);
  if (!forward.length) return true;
  if (!(await send(forward))) return false;
  remember({ label, forward, back: operationsBetween(after, before) });
  return true;
}

/** Notes what a task of the worker changed: the classes are read again, and the difference can be taken back. */
export async function changedByWorker(label: string, task: () => Promise<unknown>): Promise<CellClass[]> {
  const before = classes.value;
  await task();
  await loadCellSets();
  savedAt.value = Date.now();
  const after = classes.value;
  // what was read anew is another object: compare by content, so that untouched classes are not part of the change
  const text = new Map(before.map((item) => [item.key, JSON.stringify(item)]));
  const kept = new Map(before.map((item) => [item.key, item]));
  const comparable = after.map((item) =>
    text.get(item.key) === JSON.stringify(item) ? (kept.get(item.key) as CellClass) : item,
  );
  classes.value = comparable;
  const fresh = comparable.filter((item) => kept.get(item.key) !== item);
  remember({ label, forward: operationsBetween(before, comparable), back: operationsBetween(comparable, before) });
  return fresh;
}

export async function undo(): Promise<void> {
  const last = done.value[done.value.length - 1];
  if (!last || !(await send(last.back))) return;
  done.value = done.value.slice(0, -1);
  undone.value = [...undone.value, last];
  say(`Undone: ${last.label}`);
}

export async function redo(): Promise<void> {
  const next = undone.value[undone.value.length - 1];
  if (!next || !(await send(next.forward))) return;
  undone.value = undone.value.slice(0, -1);
  done.value = [...done.value, next];
  say(`Done again: ${next.label}`);
}
