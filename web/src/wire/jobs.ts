// The worker's jobs for this page, for the footer.
import { signal } from "@preact/signals";

export interface Job {
  readonly id: number;
  /** What a person calls it. */
  readonly label: string;
  readonly startedAt: number;
  stage: string;
  /** From 0 to 1; null where the worker does not say. */
  fraction: number | null;
  cancel: () => void;
}

export const jobs = signal<readonly Job[]>([]);
let lastId = 0;

export function beginJob(label: string, cancel: () => void): Job {
  const job: Job = { id: ++lastId, label, startedAt: performance.now(), stage: "", fraction: null, cancel };
  jobs.value = [...jobs.value, job];
  return job;
}

export function endJob(job: Job): void {
  jobs.value = jobs.value.filter((other) => other.id !== job.id);
}

interface Heartbeat {
  status_code?: string;
  user_message?: string;
  progress_percent?: number | null;
}

/** Notes a heartbeat. It names no request, so it counts for the newest job. */
export function heartbeat(payload: unknown): void {
  const beat = payload as Heartbeat;
  const newest = jobs.value[jobs.value.length - 1];
  if (!newest || !beat.user_message) return;
  const percent = beat.progress_percent;
  if (percent == null) return;
  newest.stage = beat.user_message.replace(/ \(\d+ %\)$/, "");
  newest.fraction = percent / 100;
  jobs.value = [...jobs.value];
}

/** Returns the seconds that a job will still take, null where unknown. */
export function secondsLeft(job: Job, now: number): number | null {
  if (job.fraction === null || job.fraction < 0.05) return null;
  const elapsed = (now - job.startedAt) / 1000;
  return (elapsed / job.fraction) * (1 - job.fraction);
}
