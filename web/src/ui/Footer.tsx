// State of the connection, the selection, saving, and the worker's jobs.
import { useEffect, useState } from "preact/hooks";
import { savedAt, sending } from "../sets/sending";
import { selectedCount } from "../state/selection";
import { facts } from "../wire/door";
import { jobs, secondsLeft } from "../wire/jobs";
import { connection } from "../wire/socket";
import { dismiss, notes } from "./notes";

const SHOWN_AFTER_MS = 250;

function ago(time: number, now: number): string {
  const seconds = Math.max(0, Math.round((now - time) / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  return seconds < 3600 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}

function useClock(): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, []);
  return now;
}

function Work() {
  const now = performance.now();
  const running = jobs.value.filter((job) => now - job.startedAt > SHOWN_AFTER_MS);
  const job = running[running.length - 1];
  if (!job) return null;
  const left = secondsLeft(job, now);
  const more = running.length > 1 ? ` and ${running.length - 1} more` : "";
  return (
    <span class="job" role="status">
      <span>{job.label}{job.stage && !job.stage.startsWith("Working on") ? `: ${job.stage}` : ""}{left === null ? "" : `, ${left < 10 ? left.toFixed(1) : Math.round(left)} s left`}{more}</span>
      <span class={`prog ${job.fraction === null ? "unknown" : ""}`} role="progressbar" aria-label={job.label} aria-valuenow={job.fraction === null ? undefined : Math.round(job.fraction * 100)}>
        <b style={{ width: `${Math.round((job.fraction ?? 0.3) * 100)}%` }} />
      </span>
      <button onClick={() => job.cancel()}>cancel</button>
    </span>
  );
}

const CONNECTION = {
  connected: "connected",
  connecting: "connecting",
  lost: "The worker is away. What was saved is safe; the page waits and continues by itself.",
} as const;

export function Footer() {
  const now = useClock();
  const state = connection.value;
  const waiting = state === "connected" ? 0 : sending.value.length;
  const folder = facts.value?.savedIn.split("/").pop() ?? "";
  return (
    <footer>
      <span class={`dot ${state}`} aria-hidden="true" />
      <span role="status">{CONNECTION[state]}{waiting > 0 && <b> {waiting} {waiting === 1 ? "change" : "changes"} of cell sets will be saved then.</b>}</span>
      {selectedCount.value > 0 && <span>{selectedCount.value.toLocaleString("en")} {selectedCount.value === 1 ? "cell" : "cells"} selected</span>}
      <span title={facts.value?.savedIn}>{savedAt.value === null ? "" : `saved in ${folder} ${ago(savedAt.value, now)}`}</span>
      <Work />
      <div class="notes" aria-live="polite">
        {notes.value.map((note) => (
          <div key={note.id} class={`pill note ${note.kind}`} role={note.kind === "bad" ? "alert" : "status"}>
            {note.text}
            <button aria-label="Dismiss" onClick={() => dismiss(note.id)}>×</button>
          </div>
        ))}
      </div>
    </footer>
  );
}
