// Sends changes of cell sets to the worker in order, each until it is answered. While the worker is away they wait.
// What another page, a task or a program changes meanwhile is read, and is not written over.
import { signal } from "@preact/signals";
import { failureOf } from "../data/loaded";
import { say } from "../ui/notes";
import { facts, followCellSets, getJson, isAway, patchCellSets, readCellSets } from "../wire/door";
import type { ExplorerFacts } from "../wire/types";
import { classes, findClass, findSet, keptWhereSame, parseCellSets, type CellClass } from "./model";
import { differing, type Traces } from "./traces";

/** A change that is sent, in a form that survives a reload. */
export interface Waiting {
  readonly label: string;
  readonly operations: object[];
  /** What it touches, before it and after it. */
  readonly before: Traces;
  readonly after: Traces;
}

interface Sending extends Waiting {
  /** The classes after the change, shown while the worker is away; null where the page does not know them. */
  readonly shows: readonly CellClass[] | null;
  /** Called with whether the change is kept: done, or waiting for a worker that is away. */
  readonly kept: (well: boolean) => void;
}

/** Changes that are not confirmed yet. */
export const sending = signal<readonly Sending[]>([]);

/** When the cell sets were saved last, null where nothing was changed yet. */
export const savedAt = signal<number | null>(null);

const AGAIN_MS = 1000;
let turn: Promise<void> | null = null;
let wasAway = false;
let timer = 0;
/** The version that the page shows; null while it shows changes that wait. */
export const setsVersion = signal<string | null>(null);
/** The version that the next change is made on; null where it has to be compared first. */
let base: string | null = null;
/** Whether they have changed since they were read last. */
let news = false;

/** Whether the worker serves the content that the changes belong to: it may have restarted with another file. */
async function servesTheSame(): Promise<boolean> {
  if ((await getJson<ExplorerFacts>("/explorer.json")).key === facts.value?.key) return true;
  const lost = sending.value;
  sending.value = [];
  for (const { kept } of lost) kept(false);
  say(`The worker serves another content now. ${lost.length} unsaved changes of cell sets belong to the content before; Export still saves their labels. Then reload the page.`, "bad");
  return false;
}

/** Shows the newest cell sets. */
async function read(): Promise<void> {
  const found = await readCellSets(setsVersion.value);
  if (!found) return;
  classes.value = keptWhereSame(classes.value, parseCellSets(found.content));
  setsVersion.value = found.version;
}

function clash({ label, before, after }: Sending): string | null {
  const key = differing(before, classes.value);
  // where the answer was lost, the change is done already
  if (key === null || differing(after, classes.value) === null) return null;
  const name = findSet(key)?.set.name ?? findClass(key)?.name;
  const now = name === undefined ? "was deleted" : "was changed";
  return `“${label}” is not done: ${name === undefined ? "what it changes" : `“${name}”`} ${now} elsewhere at the same time. The list shows it as it is now.`;
}

/** Sends one; null, or why it is not done. Throws where the worker is away. */
async function attempt(item: Sending): Promise<string | null> {
  const made = base && (await patchCellSets(item.operations, base));
  base = made;
  while (base === null) {
    await read();
    const refused = clash(item);
    if (refused) return refused;
    // what waits behind it was made on other sets than these: it is compared as well
    if (await patchCellSets(item.operations, setsVersion.value ?? "")) return null;
  }
  return null;
}

async function sendOne(item: Sending): Promise<void> {
  let refused: string | null;
  try {
    refused = await attempt(item);
    if (!refused) savedAt.value = Date.now();
  } catch (error) {
    if (isAway(error)) throw error;
    refused = failureOf(error).message;
  }
  if (refused) say(refused, "bad");
  sending.value = sending.value.slice(1);
  item.kept(!refused);
}

async function sendAll(): Promise<void> {
  try {
    const waited = wasAway ? sending.value.length : 0;
    if (waited && !(await servesTheSame())) return;
    wasAway = false;
    // changes that were made during the read are not in it: the sets are read again after those are sent
    do {
      while (sending.value.length) await sendOne(sending.value[0]);
      news = false;
      await read();
    } while (sending.value.length || news);
    base = setsVersion.value;
    if (waited) say(`${waited === 1 ? "The change that waited is" : `The ${waited} changes that waited are`} saved.`);
  } catch (error) {
    if (!isAway(error)) throw error;
    wasAway = true;
    for (const { kept } of sending.value) kept(true);
    const after = sending.value[sending.value.length - 1]?.shows;
    if (after) {
      classes.value = after;
      setsVersion.value = null;
    }
    clearTimeout(timer);
    if (sending.value.length) timer = window.setTimeout(() => void sync(), AGAIN_MS);
  }
}

/** Sends the waiting changes, then reads the cell sets. */
export function sync(): Promise<void> {
  turn ??= sendAll().finally(() => (turn = null));
  return turn;
}

/** Sends a change after all others. Resolves when it is done, or waits; false where it is refused. */
export async function send(change: Waiting, shows: readonly CellClass[] | null): Promise<boolean> {
  const well = await new Promise<boolean>((resolve, reject) => {
    sending.value = [...sending.value, { ...change, shows, kept: resolve }];
    sync().catch(reject);
  });
  // until the list shows it
  await turn;
  return well;
}

/** Queues changes again that an earlier page could not send. */
export function resume(waiting: readonly Waiting[]): void {
  if (!waiting.length) return;
  sending.value = waiting.map((change) => ({ ...change, shows: null, kept: () => undefined }));
  wasAway = true;
  base = null;
}

function look(): void {
  sync().catch((error: unknown) => say(failureOf(error).message, "bad"));
}

/** Reads the cell sets, and from now on whatever changes them elsewhere. */
export async function beginCellSets(): Promise<void> {
  const found = await readCellSets(null);
  if (!found) return;
  classes.value = parseCellSets(found.content);
  setsVersion.value = base = found.version;
  followCellSets((version) => {
    if (version === setsVersion.value || version === base) return;
    news = true;
    look();
  });
  // a tab that slept may have missed an event
  window.addEventListener("focus", look);
}

// Closing the tab would lose what waits: the browser asks.
window.addEventListener("beforeunload", (event) => sending.value.length && event.preventDefault());
