// The whole view as a session file, and the few settings that this browser remembers.
import { fileName, saveText } from "../charts/save";
import { isBitmap, keyOf, maskOfKey } from "../data/bitmap";
import { knownColumn } from "../data/columns";
import { idCount } from "../sets/model";
import { say } from "../ui/notes";
import { facts } from "../wire/door";
import { openAddress, addressOf } from "./address";
import { select, selection } from "./selection";
import { update, view, type GeneSet, type Side } from "./view";

interface Session {
  readonly cellworker: string;
  readonly experiment: { readonly key: string; readonly id: string };
  readonly address: string;
  readonly a: Side | null;
  readonly b: Side;
  readonly selected: string | null;
  readonly geneSets: readonly GeneSet[];
  readonly pointSize: number;
  readonly opacity: number;
  readonly tissueOpacity: number;
  readonly plotColumns: readonly string[];
  readonly palette: "own" | "safe";
  readonly labels: boolean;
}

export function sessionText(): string {
  const { a, b, geneSets, pointSize, opacity, tissueOpacity, plotColumns, palette, labels } = view.value;
  const selected = selection.value ? keyOf(selection.value.mask) : null;
  const session: Session = {
    cellworker: facts.value?.version ?? "",
    experiment: { key: facts.value?.key ?? "", id: facts.value?.experimentId ?? "" },
    address: addressOf(view.value, null, Infinity), a, b, selected, geneSets, pointSize, opacity, tissueOpacity, plotColumns, palette, labels,
  };
  return `${JSON.stringify(session, null, 1)}\n`;
}

export function saveSession(): void {
  saveText(fileName(facts.value?.experimentId ?? "", "session.cellworker.json"), sessionText(), "application/json");
}

function isGeneSet(value: unknown): value is GeneSet {
  const set = value as GeneSet;
  const method = set?.method === undefined || ["seurat", "scanpy", "mean"].includes(set.method);
  return method && typeof set?.name === "string" && Array.isArray(set.genes) && set.genes.every((gene) => typeof gene === "string");
}

function number(value: unknown, low: number, high: number): number {
  return typeof value === "number" && Number.isFinite(value) ? Math.min(high, Math.max(low, value)) : 1;
}

function side(value: unknown): Side | null {
  const found = value as Side | null;
  return found && typeof found.key === "string" && typeof found.name === "string" && isBitmap(found.key) ? { key: found.key, name: found.name } : null;
}

/** Opens a session file; a sentence says why where that is not possible. */
export function openSession(text: string): void {
  let session: Session;
  try {
    session = JSON.parse(text) as Session;
    if (typeof session.address !== "string" || typeof session.experiment?.key !== "string") throw new Error("fields");
  } catch {
    say("This is no session file of cellworker. Choose a file that “Save session” made.", "bad");
    return;
  }
  if (session.experiment.key !== facts.value?.key) {
    say(`This session belongs to another experiment (“${String(session.experiment.id).slice(0, 60)}”). Open that file with cellworker run, then this session.`, "bad");
    return;
  }
  update({
    geneSets: Array.isArray(session.geneSets) ? session.geneSets.filter(isGeneSet) : [],
    pointSize: number(session.pointSize, 0.25, 4), opacity: number(session.opacity, 0.1, 2), tissueOpacity: number(session.tissueOpacity, 0, 1),
    plotColumns: Array.isArray(session.plotColumns) ? session.plotColumns.filter((name) => knownColumn(String(name))) : [],
    palette: session.palette === "safe" ? "safe" : "own", labels: session.labels !== false,
  });
  openAddress(session.address);
  const a = side(session.a);
  const b = side(session.b);
  if (a) update({ a });
  if (b) update({ b });
  if (typeof session.selected === "string" && isBitmap(session.selected)) {
    try {
      select(maskOfKey(session.selected, idCount.value));
    } catch {
      say("The selection in the session cannot be read; the rest is shown.", "bad");
      return;
    }
  }
  say("The session is open.");
}

const REMEMBERED = "cellworker-gene-sets";

/** Gene sets are a person's, whatever experiment is open. */
export function rememberGeneSets(): void {
  try {
    const known: unknown = JSON.parse(localStorage.getItem(REMEMBERED) ?? "[]");
    if (Array.isArray(known)) update({ geneSets: known.filter(isGeneSet) });
  } catch {
    localStorage.removeItem(REMEMBERED);
  }
  let last = view.value.geneSets;
  view.subscribe((now) => {
    if (now.geneSets === last) return;
    last = now.geneSets;
    localStorage.setItem(REMEMBERED, JSON.stringify(last));
  });
}
