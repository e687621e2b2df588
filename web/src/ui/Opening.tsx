// The page while the file is read, and when it cannot be.
import { useEffect, useState } from "preact/hooks";
import { readHealth, type Health } from "../wire/door";
import { Failure } from "./States";

const LOOK_MS = 400;
/** Looks without an answer after which the worker is said to be away: it may be starting again. */
const MAX_UNANSWERED = 5;
const AWAY =
  "The worker does not answer. Where it could not open the file, it has ended and says why in its terminal. This page goes on as soon as a worker answers.";

export function Opening({ failure }: { failure: string }) {
  const [health, setHealth] = useState<Health | null>(null);
  const [unanswered, setUnanswered] = useState(0);
  useEffect(() => {
    let ended = false;
    const look = async () => {
      const now = await readHealth().catch(() => null);
      if (ended) return;
      setHealth(now);
      setUnanswered((before) => (now ? 0 : before + 1));
      timer = window.setTimeout(() => void look(), LOOK_MS);
    };
    let timer = window.setTimeout(() => void look(), LOOK_MS);
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, []);
  const isAway = unanswered >= MAX_UNANSWERED;
  const sentence = failure || (health?.status === "failed" ? (health.error?.user_message ?? "") : isAway ? AWAY : "");
  const progress = health?.progress;
  const share = progress?.fraction ?? (progress?.percent == null ? null : progress.percent / 100);
  return (
    <div class="opening">
      <h1 class="brand"><i aria-hidden="true" />cellworker</h1>
      {sentence ? (
        <>
          <Failure message={sentence} />
          {!isAway && <p class="hint">The worker tries again by itself, and at once when the file changes. <a href="./console">The console</a> shows its answers.</p>}
        </>
      ) : (
        <>
          <p role="status">{progress?.stage ?? "Opening the experiment"} …</p>
          <span class={`prog ${share === null ? "unknown" : ""}`}><b style={{ width: `${Math.round((share ?? 0.3) * 100)}%` }} /></span>
        </>
      )}
    </div>
  );
}
