// Clusters at any resolution.
import { useState } from "preact/hooks";
import { Choice, NumberField } from "../ui/Fields";
import { Hint } from "../ui/States";
import { ask } from "../wire/door";
import { Run } from "./Run";

const METHODS = [["louvain", "Louvain"], ["leiden", "Leiden"]] as const;

export function ClustersPanel() {
  const [type, setType] = useState<"louvain" | "leiden">("louvain");
  const [resolution, setResolution] = useState(0.8);
  return (
    <div class="panel scroll">
      <Run
        title="Clusters" action="Cluster all cells" label={`${type} clusters at ${resolution}`}
        run={() => ask("ClusterCells", { type, cellSetKey: "louvain", cellSetName: `${type} clusters`, config: { resolution } }, `${type} clusters`)}
      >
        <Choice label="Method" value={type} options={METHODS} onChange={setType} />
        <NumberField label="Resolution" value={resolution} min={0} max={5} step={0.1} onChange={setResolution} />
        <Hint>A higher resolution finds more clusters. They replace the clusters in use; undo (<kbd>U</kbd>) brings these back.</Hint>
      </Run>
    </div>
  );
}
