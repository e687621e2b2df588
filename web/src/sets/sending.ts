// Sends changes of cell sets to the worker in order, each until it is answered. While the worker is away they wait.
import { signal } from "@preact/signals";
import { failureOf } from "../data/loaded";
import { say } from "../ui/notes";
import { facts, getJson, isAway, patchCellSets } from "../wire/door";
import type { ExplorerFacts } from "../wire/types";
import { classes, fetchCellSets, type CellClass } from "./model";

interface Sending {
  readonly operations: object[];
  /** The classes after the change, shown while the worker is away; null where the page does not know them. */
  readonly after: readonly CellClass[] | null;
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

/** Whether the worker serves the content that the changes belong to: it may have restarted with another file. */
async function servesTheSame(): Promise<boolean> {
  if ((await getJson<ExplorerFacts>("/explorer.json")).key === facts.value?.key) return true;
  const lost = sending.value;
  sending.value = [];
  for (const { kept } of lost) kept(false);
  say(`The worker serves another content now. ${lost.length} unsaved changes of cell sets belong to the content before; Export still saves their labels. Then reload the page.`, "bad");
  return false;
}

/** Sends one; throws where the worker is away. */
async function sendOne({ operations, kept }: Sending): Promise<void> {
  let well = true;
  try {
    await patchCellSets(operations);
    savedAt.value = Date.now();
  } catch (error) {
    if (isAway(error)) throw error;
    say(failureOf(error).message, "bad");
    well = false;
  }
  sending.value = sending.value.slice(1);
  kept(well);
}

async function sendAll(): Promise<void> {
  try {
    const waited = wasAway ? sending.value.length : 0;
    if (waited && !(await servesTheSame())) return;
    wasAway = false;
    let now = null;
    // changes that were made during the read are not in it: the sets are read again after those are sent
    while (sending.value.length || !now) {
      while (sending.value.length) await sendOne(sending.value[0]);
      now = await fetchCellSets();
    }
    classes.value = now;
    if (waited) say(`${waited === 1 ? "The change that waited is" : `The ${waited} changes that waited are`} saved.`);
  } catch (error) {
    if (!isAway(error)) throw error;
    wasAway = true;
    for (const { kept } of sending.value) kept(true);
    const after = sending.value[sending.value.length - 1]?.after;
    if (after) classes.value = after;
    clearTimeout(timer);
    if (sending.value.length) timer = window.setTimeout(() => void sync(), AGAIN_MS);
  }
}

/** Sends the waiting changes, then reads the cell sets. */
export function sync(): Promise<void> {
  turn ??= sendAll().finally(() => (turn = null));
  return turn;
}

/** Sends operations after all others. Resolves when they are done, or wait; false where the worker refuses them. */
export function send(operations: object[], after: readonly CellClass[] | null): Promise<boolean> {
  return new Promise((resolve, reject) => {
    sending.value = [...sending.value, { operations, after, kept: resolve }];
    sync().catch(reject);
  });
}

/** Queues changes again that an earlier page could not send. */
export function resume(waiting: readonly object[][]): void {
  if (!waiting.length) return;
  sending.value = waiting.map((operations) => ({ operations, after: null, kept: () => undefined }));
  wasAway = true;
}

// Closing the tab would lose what waits: the browser asks.
window.addEventListener("beforeunload", (event) => sending.value.length && event.preventDefault());
