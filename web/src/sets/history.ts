// Changes of cell sets, each with its undo. They survive a reload of the tab.
import { batch, computed, effect, signal, type Signal } from "@preact/signals";
import { facts } from "../wire/door";
import { say } from "../ui/notes";
import { classes, OWN_CLASS, type CellClass } from "./model";
import { operationsBetween } from "./operations";
import { resume, savedAt, send, sending, sync, type Waiting } from "./sending";
import { differing, touchedBy, tracesOf, type Traces } from "./traces";

interface Change {
  readonly label: string;
  readonly forward: object[];
  readonly back: object[];
  /** What it touches, before and after it. */
  readonly before: Traces;
  readonly after: Traces;
}

/** The classes before and after a change: undo works from these while the worker is away. */
const states = new WeakMap<Change, readonly [readonly CellClass[], readonly CellClass[]]>();
const done = signal<readonly Change[]>([]);
const undone = signal<readonly Change[]>([]);
const MAX_CHANGES = 50;

export const undoLabel = computed(() => done.value[done.value.length - 1]?.label ?? null);
export const redoLabel = computed(() => undone.value[undone.value.length - 1]?.label ?? null);

function changeBetween(label: string, before: readonly CellClass[], after: readonly CellClass[]): Change {
  const forward = operationsBetween(before, after);
  const back = operationsBetween(after, before);
  const touched = [...new Set([...touchedBy(forward, before), ...touchedBy(back, after)])];
  const made = { label, forward, back, before: tracesOf(touched, before), after: tracesOf(touched, after) };
  states.set(made, [before, after]);
  return made;
}

function remember(change: Change): void {
  // in one batch, since each change of the lists saves them
  batch(() => {
    done.value = [...done.value.slice(-MAX_CHANGES + 1), change];
    undone.value = [];
  });
}

let turn: Promise<unknown> = Promise.resolve();

/** One after the other: a key that is pressed twice undoes two changes, not one change twice. */
function inTurn<T>(step: () => Promise<T>): Promise<T> {
  const mine = turn.then(step);
  turn = mine.catch(() => undefined);
  return mine;
}

/** Changes the classes, on the worker first; while it is away, here. */
export function change(label: string, edit: (now: readonly CellClass[]) => readonly CellClass[]): Promise<boolean> {
  return inTurn(async () => {
    const before = classes.value;
    const after = edit(before);
    const made = changeBetween(label, before, after);
    if (!made.forward.length) return true;
    if (!(await send({ label, operations: made.forward, before: made.before, after: made.after }, after))) return false;
    remember(made);
    return true;
  });
}

/**
 * Notes the change of a worker's task: the classes are read again, and the difference can be undone.
 *
 * @param inOwn whether the task makes sets in the class of custom sets; else it makes classes
 */
export async function changedByWorker(label: string, task: () => Promise<unknown>, inOwn = false): Promise<readonly CellClass[]> {
  await sync();
  const before = classes.value;
  await task();
  await sync();
  savedAt.value = Date.now();
  // what another page did meanwhile is no part of it
  const known = new Map(before.map((item) => [item.key, item]));
  const fresh = classes.value.filter((item) => known.get(item.key) !== item && (item.key === OWN_CLASS) === inOwn);
  const kept = new Set(classes.value.map((item) => item.key));
  const without = classes.value.flatMap((item) => (fresh.includes(item) ? (known.get(item.key) ?? []) : item));
  const replaced = before.filter((item) => !kept.has(item.key));
  remember(changeBetween(label, [...without, ...replaced], classes.value));
  return fresh;
}

type Changes = Signal<readonly Change[]>;

/** Undoes or redoes the last change of one list, and moves it to the other list. */
function move(from: Changes, to: Changes, way: "back" | "forward", said: string): Promise<void> {
  return inTurn(async () => {
    const last = from.value[from.value.length - 1];
    if (!last) return;
    const rest = from.value.slice(0, -1);
    const [before, after] = way === "back" ? [last.after, last.before] : [last.before, last.after];
    if (differing(before, classes.value) !== null) {
      from.value = rest;
      say(`“${last.label}” stays as it is: it was changed elsewhere since, and that would be lost.`, "bad");
      return;
    }
    const [first, second] = states.get(last) ?? [];
    const [here, there] = way === "back" ? [second, first] : [first, second];
    const waiting = { label: `${said.toLowerCase()}: ${last.label}`, operations: last[way], before, after };
    if (!(await send(waiting, there && here === classes.value ? there : null))) return;
    batch(() => {
      from.value = rest;
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
  readonly waiting: readonly Waiting[];
}

function place(): string {
  return `cellworker-sets:${facts.value?.key ?? ""}`;
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
  stopWriting = effect(() => write({ done: done.value, undone: undone.value, waiting: sending.value.map(({ label, operations, before, after }) => ({ label, operations, before, after })) }));
}
