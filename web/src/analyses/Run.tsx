// A form that asks the worker to change cell sets, and shows a failure below its button.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { failureOf } from "../data/loaded";
import type { CellClass } from "../sets/model";
import { changedByWorker } from "../sets/history";
import { colourBy, update, view } from "../state/view";
import { Failure, Waiting } from "../ui/States";
import { say } from "../ui/notes";

interface Props {
  readonly title: string;
  readonly children?: ComponentChildren;
  readonly action: string;
  readonly label: string;
  readonly run: () => Promise<unknown>;
  readonly disabled?: boolean;
}

function show(fresh: readonly CellClass[]): void {
  const item = fresh.find((other) => other.children.length);
  if (!item) return;
  colourBy({ by: "class", key: item.key });
  update({ left: "sets", open: [...new Set([...view.value.open, item.key])] });
  say(`${item.name}: ${item.children.length} sets`);
}

export function Run({ title, children, action, label, run, disabled }: Props) {
  const [state, setState] = useState<"idle" | "busy">("idle");
  const [trouble, setTrouble] = useState("");
  const go = async () => {
    setState("busy");
    setTrouble("");
    try {
      show(await changedByWorker(label, run));
    } catch (error) {
      setTrouble(failureOf(error).message);
    } finally {
      setState("idle");
    }
  };
  // not disabled while it works: that would take the focus away
  return (
    <section class="task">
      <h3>{title}</h3>
      {children}
      <div class="buttons"><button class="btn p" disabled={disabled} aria-disabled={state === "busy"} onClick={() => state === "idle" && void go()}>{action}</button></div>
      {state === "busy" && <Waiting text={label} />}
      {trouble && <Failure message={trouble} small />}
    </section>
  );
}
