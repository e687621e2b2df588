// Work that goes on though its page was closed or loaded again: shown, cancelled and taken up by whoever looks next.
import { sync } from "../sets/sending";
import { followWork, foundWork } from "../wire/door";
import { FILE_TASKS, PATCHING_TASKS, type TaskName } from "../wire/types";
import { say } from "./notes";

/** What takes long enough to be found; this page's own questions of a moment are not among them. */
const LABELS: Partial<Record<TaskName, string>> = {
  ClusterCells: "Clusters", ClusterSubset: "Clusters of some cells", ScTypeAnnotate: "Cell types by marker genes", CASSIAAnnotate: "Cell types by CASSIA",
  CellCycleScoring: "Cell cycle phases", GetTrajectoryAnalysisStartingNodes: "Trajectory", GetTrajectoryAnalysisPseudoTime: "Pseudotime",
  DownloadAnnotSeuratObject: "Annotated object", GetNormalizedExpression: "Expression matrix", MarkerHeatmap: "Marker genes", DotPlot: "Dot plot",
};

function ended(name: TaskName, label: string): string {
  if (PATCHING_TASKS.includes(name)) return `${label}: done, the cell sets are here.`;
  return `${label}: done. ${FILE_TASKS.includes(name) ? "Export it again to save the file" : "Ask again to see it"}; it is not computed twice.`;
}

/** Follows what the worker is found to compute for others. */
export async function takeUpWork(): Promise<void> {
  for (const { name, etag } of await foundWork()) {
    const label = LABELS[name];
    if (!label) continue;
    void followWork(etag, `${label}, begun before`).then(async (done) => {
      if (!done) return;
      if (PATCHING_TASKS.includes(name)) await sync();
      say(ended(name, label));
    });
  }
}
