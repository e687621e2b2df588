// The worker's HTTP door: requests are posted, an event says when the result is ready, then it is fetched.
import { signal } from "@preact/signals";
import { beginJob, endJob, heartbeat, type Job } from "./jobs";
import { listen, listening, whenReconnected } from "./socket";
import { decodeColumns, MEDIA_TYPE, type Columns } from "./columns";
import { FILE_TASKS, PATCHING_TASKS, type Bodies, type ExplorerFacts, type Results, type TaskName } from "./types";

/** What the worker refused, in its own sentence. */
export class DoorError extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

export const CANCELLED = "REQUEST_CANCELLED";
const UNREACHABLE = "UNREACHABLE";
/** Statuses of a proxy before the worker (of a notebook, for example) while the worker is down. */
const AWAY_STATUS: readonly number[] = [502, 503, 504];
const UNCHANGED = 304;
const CHANGED_MEANWHILE = 409;

/** Whether the worker could not be reached: the request is repeated when it is back. */
export function isAway(error: unknown): boolean {
  return error instanceof DoorError && error.code === UNREACHABLE;
}

/** The address of a path of the worker: in a notebook the page does not lie at the root. */
function addressOn(path: string): string {
  return new URL(path.replace(/^\//, "./"), document.baseURI).href;
}

export const facts = signal<ExplorerFacts | null>(null);

/** The facts of an answer, without its columns. */
type FactsOf<T> = T extends object ? Omit<T, "columns"> : never;

interface Notice {
  response?: { error?: boolean; errorCode?: string; userMessage?: string };
}

interface Refusal {
  message?: string;
  errors?: { code?: string }[];
}

async function refusal(response: Response): Promise<DoorError> {
  const told = (await response.json().catch(() => ({}))) as Refusal;
  return new DoorError(told.errors?.[0]?.code ?? String(response.status), told.message ?? response.statusText);
}

async function call(path: string, init?: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(addressOn(path), init);
    if (AWAY_STATUS.includes(response.status)) throw new TypeError(response.statusText);
  } catch {
    throw new DoorError(UNREACHABLE, "The worker does not answer. It may be starting again; the page waits for it.");
  }
  if (!response.ok && response.status !== UNCHANGED) throw await refusal(response);
  return response;
}

export async function getJson<T>(path: string): Promise<T> {
  return (await (await call(path)).json()) as T;
}

export async function getBlob(path: string): Promise<Blob> {
  return (await call(path)).blob();
}

function here(): string {
  return encodeURIComponent(facts.value?.experimentId ?? "");
}

/** Where things about the experiment lie, beside requests and their results. */
export function experimentPath(): string {
  return `/v2/experiments/${here()}`;
}

/** Begins to listen for progress. */
export function followProgress(experimentId: string): void {
  listen(`Heartbeat-${experimentId}`, heartbeat);
}

async function post(body: object): Promise<{ ETag: string; signedUrl: string | null }> {
  const response = await call(`/v2/workRequest/${here()}`, { method: "POST", body: JSON.stringify({ body }) });
  return ((await response.json()) as { data: { ETag: string; signedUrl: string | null } }).data;
}

/** Resolves when the worker says that a result is ready; asks again when the worker has restarted. */
function answered(etag: string, body: object): Promise<void> {
  return new Promise((resolve, reject) => {
    const endings: (() => void)[] = [];
    const settle = (error?: unknown) => {
      for (const ending of endings) ending();
      if (error) reject(error);
      else resolve();
    };
    endings.push(
      listen(`WorkResponse-${etag}`, (payload) => {
        const response = typeof payload === "object" ? (payload as Notice).response : undefined;
        const failed = response?.error === true;
        settle(failed ? new DoorError(response.errorCode ?? "", response.userMessage ?? "") : undefined);
      }),
      whenReconnected(() => {
        post(body).then((again) => again.signedUrl && settle(), settle);
      }),
    );
  });
}

function cancelOnWorker(named: string): void {
  void call(`/v2/workRequest/${here()}/${named}`, { method: "DELETE" }).catch(() => undefined);
}

const AGAIN_MS = 500;
/** Names of this page's requests begin with it. */
const PAGE = [...crypto.getRandomValues(new Uint32Array(3))].map((part) => part.toString(36)).join("");
let asked = 0;

/** Repeats a request after an outage, until the worker answers or the request is cancelled. */
async function throughRestarts<T>(ask: () => Promise<T>, wanted: () => boolean): Promise<T> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (!isAway(error) || !wanted()) throw error;
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      await listening();
    }
  }
}

/** Work of the queue that this page waits for. */
const awaited = new Set<string>();

/** What the worker computes that a page before this one, or another tab, asked for. */
export async function foundWork(): Promise<{ name: TaskName; etag: string }[]> {
  const { data } = await getJson<{ data: { name: TaskName; ETag: string }[] }>(`/v2/workRequest/${here()}`);
  return data.filter(({ ETag }) => !awaited.has(ETag)).map(({ name, ETag }) => ({ name, etag: ETag }));
}

/** Waits for work that was found; ends at once where the worker was started anew and no longer does it. */
export async function followWork(etag: string, label: string): Promise<boolean> {
  const job = beginJob(label, () => cancelOnWorker(etag));
  awaited.add(etag);
  try {
    return await new Promise((resolve) => {
      const endings: (() => void)[] = [];
      const settle = (done: boolean) => {
        for (const ending of endings) ending();
        resolve(done);
      };
      endings.push(
        listen(`WorkResponse-${etag}`, (payload) => settle((payload as Notice)?.response?.error !== true)),
        whenReconnected(() => settle(false)),
      );
    });
  } finally {
    awaited.delete(etag);
    endJob(job);
  }
}

async function run<T extends TaskName>(name: T, body: Bodies[T], job: Job): Promise<string> {
  const whole = { name, ...body };
  let wanted = true;
  job.cancel = () => (wanted = false);
  await listening();
  const told = await throughRestarts(() => post(whole), () => wanted);
  if (told.signedUrl) return told.ETag;
  job.cancel = () => cancelOnWorker(told.ETag);
  awaited.add(told.ETag);
  try {
    await answered(told.ETag, whole);
  } finally {
    awaited.delete(told.ETag);
  }
  return told.ETag;
}

/**
 * Asks for one task.
 *
 * @param label what a person calls it, shown while it runs
 */
export async function ask<T extends TaskName>(name: T, body: Bodies[T], label: string): Promise<Results[T]> {
  const job = beginJob(label, () => undefined);
  try {
    const etag = await run(name, body, job);
    if (PATCHING_TASKS.includes(name) || FILE_TASKS.includes(name)) return null as Results[T];
    return await getJson<Results[T]>(`/results/${etag}?decode=1`);
  } finally {
    endJob(job);
  }
}

/**
 * Asks for one task's answer as typed columns, which the worker computes at once. Cancelling says so by the request's
 * name: who only hangs up, as a page that is loaded again, may come back for the answer.
 *
 * @param label what a person calls it, shown while it runs
 */
export async function askColumns<T extends TaskName>(name: T, body: Bodies[T], label: string): Promise<Columns<FactsOf<Results[T]>>> {
  const hangUp = new AbortController();
  const named = `${PAGE}-${++asked}`;
  const job = beginJob(label, () => (cancelOnWorker(named), hangUp.abort()));
  try {
    const headers = { Accept: MEDIA_TYPE, "X-Request-Name": named };
    const init = { method: "POST", body: JSON.stringify({ body: { name, ...body } }), headers, signal: hangUp.signal };
    const asking = async () => {
      const response = await call(`/v2/workRequest/${here()}`, init);
      if (!response.headers.get("Content-Type")?.startsWith(MEDIA_TYPE)) throw refusalOf((await response.json()) as Notice);
      return response.arrayBuffer();
    };
    return decodeColumns<FactsOf<Results[T]>>(await throughRestarts(asking, () => !hangUp.signal.aborted));
  } catch (error) {
    throw hangUp.signal.aborted ? new DoorError(CANCELLED, "Cancelled.") : error;
  } finally {
    endJob(job);
  }
}

/** A task's refusal; a worker with any other answer has no typed columns. */
function refusalOf({ response }: Notice): DoorError {
  return new DoorError(response?.errorCode ?? "", response?.userMessage ?? "The worker does not answer with columns: is it an older one?");
}

/** Asks for a task that answers with a file; returns the address to download it from. */
export async function askFile<T extends TaskName>(name: T, body: Bodies[T], label: string): Promise<string> {
  const job = beginJob(label, () => undefined);
  try {
    return addressOn(`/results/${await run(name, body, job)}`);
  } finally {
    endJob(job);
  }
}

export interface ReadCellSets {
  readonly content: unknown;
  readonly version: string;
}

/** Calls a listener with the version of the cell sets when they have changed, wherever that was done. */
export function followCellSets(listener: (version: string) => void): void {
  listen(`CellSets-${facts.value?.experimentId}`, (payload) => listener(`"${(payload as { version: string }).version}"`));
}

/** Reads the cell sets; null where they still have the version that is known. */
export async function readCellSets(known: string | null): Promise<ReadCellSets | null> {
  const response = await call(`/v2/experiments/${here()}/cellSets`, known ? { headers: { "If-None-Match": known } } : {});
  return response.status === UNCHANGED ? null : { content: await response.json(), version: response.headers.get("ETag") ?? "" };
}

/** Changes one version of the cell sets; returns the next, null where they have another version. */
export async function patchCellSets(operations: object[], version: string): Promise<string | null> {
  const init = { method: "PATCH", body: JSON.stringify(operations), headers: { "X-Cell-Sets-Version": version } };
  const response = await call(`/v2/experiments/${here()}/cellSets`, init);
  const { data } = (await response.json()) as { data: { code: number } };
  return data.code === CHANGED_MEANWHILE ? null : (response.headers.get("ETag") ?? "");
}

export interface Health {
  status: "up" | "loading" | "failed";
  version: string;
  progress?: { stage?: string; fraction?: number | null; percent?: number } | null;
  error?: { error_code: string; user_message: string } | null;
}

export function readHealth(): Promise<Health> {
  return getJson<Health>("/health");
}
