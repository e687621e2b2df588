// Start of the page: facts, cell sets, names of genes, the view in the address, a map.
import { signal } from "@preact/signals";
import { loadCellColumns } from "./data/columns";
import { loadGeneNames } from "./data/genes";
import { failureOf, type Loaded } from "./data/loaded";
import { mapPoints, type MapSource } from "./data/points";
import { defaultSettings } from "./map/MapTitle";
import { likeliestClass } from "./sets/model";
import { followChanges } from "./sets/history";
import { beginCellSets, sending, sync } from "./sets/sending";
import { followView, openAddress } from "./state/address";
import { rememberGeneSets } from "./state/session";
import { update, view, type Colouring } from "./state/view";
import { followKeys } from "./ui/actions";
import { say } from "./ui/notes";
import { beginTourOnce } from "./ui/Tour";
import { facts, followProgress, getJson } from "./wire/door";
import { takeUpWork } from "./ui/found";
import { connect, listening, whenReconnected } from "./wire/socket";
import type { ExplorerFacts } from "./wire/types";

export const started = signal<Loaded<true>>({ state: "loading" });
const RETRY_MS = 1500;

/** The first map: the file's default, else one that is computed now. */
function firstSource(known: ExplorerFacts): MapSource {
  return known.defaultReduction ? { kind: "saved", name: known.defaultReduction } : defaultSettings("umap", known.cells);
}

function firstColour(): Colouring {
  const named = likeliestClass();
  return named ? { by: "class", key: named.key } : { by: "plain" };
}

async function open(): Promise<void> {
  const known = await getJson<ExplorerFacts>("/explorer.json");
  facts.value = known;
  document.title = `${known.experimentId} · cellworker`;
  followProgress(known.experimentId);
  const source = firstSource(known);
  // the coordinates load while the cell sets are read
  mapPoints(source);
  const genes = loadGeneNames();
  const columns = loadCellColumns();
  await beginCellSets();
  followChanges();
  if (sending.value.length) await sync();
  const colour = firstColour();
  const opened = [colour.by === "class" ? colour.key : "", "scratchpad"].filter(Boolean);
  update({ maps: [{ id: 1, source, colour }], active: 1, open: opened });
  rememberGeneSets();
  const address = location.hash.slice(1);
  if (address) {
    await Promise.all([genes, columns]);
    openAddress(address);
  }
  genes.catch((error: unknown) => say(failureOf(error).message, "bad"));
}

/** After an outage: checks that the worker still serves the same content, and reads the cell sets again. */
async function lookAgain(): Promise<void> {
  const known = await getJson<ExplorerFacts>("/explorer.json");
  if (known.key !== facts.value?.key && !sending.value.length) {
    say("The worker serves another content now; the page opens it.");
    location.reload();
    return;
  }
  await sync();
  if (known.key !== facts.value?.key) return;
  facts.value = known;
  say("The worker is back.");
}

export async function start(): Promise<void> {
  connect();
  for (;;) {
    try {
      await open();
      break;
    } catch (error) {
      started.value = failureOf(error);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
  started.value = { state: "ready", value: true };
  followKeys();
  followView();
  whenReconnected(() => void lookAgain().catch((error: unknown) => say(failureOf(error).message, "bad")));
  const takeUp = () => void listening().then(takeUpWork).catch((error: unknown) => say(failureOf(error).message, "bad"));
  takeUp();
  whenReconnected(takeUp);
  if (view.value.maps.length) beginTourOnce();
}
