// Changes of cell sets, each with its undo. They survive a reload of the tab.
import { batch, computed, effect, signal, type Signal } from "@preact/signals";
import { facts } from "../wire/door";
import { say } from "../ui/notes";
import { classes, loadCellSets, type CellClass } from "./model";
import { operationsBetween } from "./operations";
import { resume, savedAt, send, sending, sync } from "./sending";

interface Change {
  readonly label: string;
  readonly forward: object[];
  readonly back: object[];
}

/** The classes before and after a change: undo works from these while the worker is away. */
const states = new WeakMap<Change, readonly [readonly CellClass[], readonly CellClass[]]>();
const done = signal<readonly Change[]>([]);
const undone = signal<readonly Change[]>([]);
const MAX_CHANGES = 50;

export const undoLabel = computed(() => done.value[done.value.length - 1]?.label ?? null);
export const redoLabel = computed(() => undone.value[undone.value.length - 1]?.label ?? null);

function remember(change: Change): void {
  // in one batch, since each change of the lists saves them
  batch(() => {
    done.value = [...done.value.slice(-MAX_CHANGES + 1), change];
    undone.value = [];
  });
}

/** Changes the classes, on the worker first; while it is away, here. */
export async function change(label: string, after: readonly CellClass[]): Promise<boolean> {
  const before = classes.value;
  const forward = operationsBetween(before, after);
  if (!forward.length) return true;
  if (!(await send(forward, after))) return false;
  const entry = { label, forward, back: operationsBetween(after, before) };
  states.set(entry, [before, after]);
  remember(entry);
  return true;
}

/** Notes the change of a worker's task: the classes are read again, and the difference can be undone. */
export async function changedByWorker(label: string, task: () => Promise<unknown>): Promise<CellClass[]> {
  await sync();
  const before = classes.value;
  await task();
  await loadCellSets();
  savedAt.value = Date.now();
  const after = classes.value;
  // classes that were read again are other objects: compare by content, so that unchanged classes are no part of the change
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

let turn: Promise<void> = Promise.resolve();

/** One after the other: a key that is pressed twice undoes two changes, not one change twice. */
function inTurn(step: () => Promise<void>): Promise<void> {
  const mine = turn.then(step);
  turn = mine.catch(() => undefined);
  return mine;
}

type Changes = Signal<readonly Change[]>;

/** Undoes or redoes the last change of one list, and moves it to the other list. */
function move(from: Changes, to: Changes, way: "back" | "forward", said: string): Promise<void> {
  return inTurn(async () => {
    const last = from.value[from.value.length - 1];
    if (!last) return;
    const [before, after] = states.get(last) ?? [];
    const [here, there] = way === "back" ? [after, before] : [before, after];
    if (!(await send(last[way], there && here === classes.value ? there : null))) return;
    batch(() => {
      from.value = from.value.slice(0, -1);
      to.value = [...to.value, last];
    });
    say(`${said}: ${last.label}`);
  });
}

export const undo = () => move(done, undone, "back", "Undone");
export const redo = () => move(undone, done, "forward", "Done again");

interface Kept {
  readonly done: readonly Change[];
  readonly undone: readonly Change[];
  readonly waiting: readonly object[][];
}

function place(): string {
  return `cellworker-changes:${facts.value?.key ?? ""}`;
}

/** Saves what a reload must not lose; where the browser's storage is too small, unsent changes come first. */
function write(kept: Kept): void {
  for (const smaller of [kept, { ...kept, done: [], undone: [] }]) {
    try {
      return sessionStorage.setItem(place(), JSON.stringify(smaller));
    } catch {
      // the browser's storage is 5 MB: a selection of a million cells fills it
    }
  }
}

let stopWriting = () => {};

/** Restores the tab's history after a reload, and saves it from then on; a second call starts over. */
export function followChanges(): void {
  try {
    const kept = JSON.parse(sessionStorage.getItem(place()) ?? "null") as Kept | null;
    if (kept) {
      done.value = kept.done;
      undone.value = kept.undone;
      resume(kept.waiting);
    }
  } catch {
    // no storage, or unreadable content: the page begins with an empty history
  }
  stopWriting();
  stopWriting = effect(() => write({ done: done.value, undone: undone.value, waiting: sending.value.map((item) => item.operations) }));
}
