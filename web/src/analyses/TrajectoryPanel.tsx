// A trajectory: learn the graph, choose roots on the map, see pseudotime and the expression of a gene along it.
import { useState } from "preact/hooks";
import { failureOf } from "../data/loaded";
import { pseudotime } from "../data/numbers";
import { mapPoints } from "../data/points";
import { enclosed } from "../map/lasso";
import { classes } from "../sets/model";
import { SetOptions } from "../sets/SetOptions";
import { selection } from "../state/selection";
import { activeMap } from "../state/view";
import { say } from "../ui/notes";
import { keyOf } from "../data/bitmap";
import { AlongPseudotime } from "../charts/AlongPseudotime";
import { Failure, Hint, Waiting } from "../ui/States";
import { chooseRoots, findTrajectory, forgetTrajectory, roots, timeFromRoots, timing, trajectory, trouble } from "./trajectory";

/** Makes the nodes inside the last outline roots. */
function rootsFromLasso(): void {
  const now = trajectory.value;
  const outline = selection.value?.outline;
  if (!now || !outline) {
    say("Draw a lasso around the first cells on the map (L), then take the nodes in it.", "bad");
    return;
  }
  const { x, y } = now.graph;
  const points = { x: Float32Array.from(x), y: Float32Array.from(y), placed: Int32Array.from(x, (_, i) => i), bounds: { left: 0, right: 0, bottom: 0, top: 0 } };
  const inside = enclosed(points, outline.points, () => true);
  chooseRoots([...new Set([...roots.value, ...points.placed.filter((i) => inside[i])])]);
}

function targetOf(of: string): string[] {
  if (of === "selection") return selection.value ? [keyOf(selection.value.mask)] : [];
  if (of) return [of];
  // all cells in any set of the class that has most cells
  const largest = classes.value.map((item) => [item.key, item.children.reduce((sum, child) => sum + child.cellIds.length, 0)] as const).sort((a, b) => b[1] - a[1])[0];
  return largest ? [largest[0]] : [];
}

export function TrajectoryPanel() {
  const [of, setOf] = useState("");
  const [busy, setBusy] = useState(false);
  const map = activeMap();
  const ready = map && mapPoints(map.source).value.state === "ready";
  const learn = async () => {
    if (busy || !map) return;
    setBusy(true);
    await findTrajectory(map.source, targetOf(of)).catch((error: unknown) => (trouble.value = failureOf(error).message));
    setBusy(false);
  };
  const now = trajectory.value;
  return (
    <div class="panel scroll">
      <section class="task">
        <h3>1. Learn the graph</h3>
        <label class="field wide">
          <span>Of</span>
          <select value={of} onChange={(event) => setOf(event.currentTarget.value)}>
            <option value="">all cells</option>
            <option value="selection" disabled={!selection.value}>the selected cells</option>
            <SetOptions />
          </select>
        </label>
        <div class="buttons">
          <button class="btn p" disabled={!ready || !targetOf(of).length} aria-disabled={busy} onClick={() => void learn()}>Learn the trajectory</button>
          {now && <button class="btn" onClick={forgetTrajectory}>Remove it from the map</button>}
        </div>
      </section>
      <section class="task">
        <h3>2. Choose where it begins</h3>
        {now ? (
          <>
            <p class="said"><b>{now.graph.x.length} {now.graph.x.length === 1 ? "node" : "nodes"}</b>, {roots.value.length} chosen as roots. Click nodes on the map, or draw a lasso around some: the map shows pseudotime from them.</p>
            <div class="buttons">
              <button class="btn" disabled={!selection.value} onClick={rootsFromLasso}>Nodes in the lasso</button>
              <button class="btn" disabled={!roots.value.length} onClick={() => (roots.value = [])}>None</button>
            </div>
          </>
        ) : (
          <Hint>Learn the graph first.</Hint>
        )}
      </section>
      <section class="task">
        <h3>3. Pseudotime</h3>
        <div class="buttons"><button class="btn p" disabled={!now || !roots.value.length} aria-disabled={timing.value} onClick={() => timing.value || void timeFromRoots()}>Compute pseudotime</button></div>
      </section>
      {(busy || timing.value) && <Waiting text={busy ? "Learning the graph" : "Computing pseudotime"} />}
      {trouble.value && <Failure message={trouble.value} small />}
      {pseudotime.value && <AlongPseudotime column={pseudotime.value} />}
    </div>
  );
}
