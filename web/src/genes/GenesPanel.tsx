// Genes: search as one types, most variable first; gates of genes and thresholds.
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { findGenes, geneNames } from "../data/genes";
import { visible } from "../map/labels";
import { activeMap, colourBy, showGene, update, view } from "../state/view";
import { geneWanted } from "../ui/palette-state";
import { useRoving } from "../ui/rove";
import { Gate } from "./Gate";

const ROW_PX = 23;

export function addPlotGene(gene: string): void {
  const { plotGenes } = view.value;
  if (!plotGenes.includes(gene)) update({ plotGenes: [...plotGenes, gene] });
}

function click(gene: string, event: { readonly shiftKey: boolean }): void {
  const colour = activeMap()?.colour;
  if (event.shiftKey && colour?.by === "gene" && colour.gene !== gene) colourBy({ by: "gene", gene: colour.gene, with: gene });
  else showGene(gene);
}

function isShown(gene: string): boolean {
  return view.value.maps.some((map) => map.colour.by === "gene" && (map.colour.gene === gene || map.colour.with === gene));
}

interface RowProps {
  readonly gene: string;
  readonly dispersion: number;
  readonly most: number;
}

export function GeneRow({ gene, dispersion, most }: RowProps) {
  const share = most > 0 ? Math.max(0, Math.min(1, dispersion / most)) : 0;
  const plotted = view.value.plotGenes.includes(gene);
  return (
    <div class={`gene-row ${isShown(gene) ? "on" : ""}`}>
      <button class="gene" title={`Colour the map by ${gene}; with Shift blended with the gene that colours it`} onClick={(event) => click(gene, event)}>{visible(gene)}</button>
      <span class="bar-of" aria-hidden="true"><b style={{ width: `${share * 100}%` }} /></span>
      <em title="Variability (dispersion)">{dispersion.toFixed(1)}</em>
      <button class="add" aria-label={`Add ${gene} to the plots`} title="Add to the plots" disabled={plotted} onClick={() => addPlotGene(gene)}>{plotted ? "✓" : "+"}</button>
    </div>
  );
}

export function GenesPanel() {
  const [wanted, setWanted] = useState("");
  const [top, setTop] = useState(0);
  const host = useRoving<HTMLDivElement>(".gene-row");
  const known = geneNames.value;
  const found = known ? findGenes(wanted, wanted ? 500 : known.names.length) : [];
  useEffect(() => {
    host.current?.scrollTo({ top: 0 });
  }, [wanted]);
  const search = useRef<HTMLInputElement>(null);
  const called = geneWanted.value;
  // not in the next frame: on a busy machine what is typed by then would be lost
  useLayoutEffect(() => {
    if (called) search.current?.focus();
    geneWanted.value = false;
  }, [called]);
  const height = host.current?.clientHeight ?? 600;
  const begin = Math.max(0, Math.floor(top / ROW_PX) - 6);
  const end = Math.min(found.length, Math.ceil((top + height) / ROW_PX) + 6);
  const most = known?.dispersions[0] ?? 1;
  return (
    <div class="panel">
      <input
        type="search" class="find" id="gene-search" ref={search} placeholder="Find a gene" aria-label="Find a gene" value={wanted}
        onInput={(event) => setWanted(event.currentTarget.value)}
        onKeyDown={(event) => event.key === "Enter" && found[0] && click(found[0], event)}
      />
      <h4>{wanted ? "Found" : "Most variable first"} <span>{found.length.toLocaleString("en")}</span></h4>
      <div class="scroll genes" ref={host} onScroll={(event) => setTop(event.currentTarget.scrollTop)}>
        <div class="tall" style={{ height: `${found.length * ROW_PX}px` }}>
          <div class="window" style={{ top: `${begin * ROW_PX}px` }}>
            {found.slice(begin, end).map((gene) => {
              const at = known?.byUpper.get(gene.toUpperCase()) ?? 0;
              return <GeneRow key={gene} gene={gene} dispersion={known?.dispersions[at] ?? 0} most={most} />;
            })}
          </div>
        </div>
        {known && !found.length && <p class="hint">No gene has “{wanted.slice(0, 60)}” in its name.</p>}
      </div>
      <Gate />
    </div>
  );
}

/** The few most variable genes, below the list of sets. */
export function VariableGenes() {
  const known = geneNames.value;
  const host = useRoving<HTMLDivElement>(".gene-row");
  return (
    <div class="variable" ref={host} hidden={!known}>
      <h4>Most variable genes <span>{known?.names.length.toLocaleString("en")}</span></h4>
      {known?.names.slice(0, 9).map((gene, i) => <GeneRow key={gene} gene={gene} dispersion={known.dispersions[i]} most={known.dispersions[0]} />)}
    </div>
  );
}
