// A chart with its title and its downloads: PNG, SVG, CSV.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { visible } from "../map/labels";
import { facts } from "../wire/door";
import { csvOf, fileName, saveFigure, saveText } from "./save";

interface Props {
  readonly title: string;
  readonly label: string;
  readonly note?: string;
  /** Whether the title is a gene's name. */
  readonly gene?: boolean;
  readonly height: number;
  /** Columns of the table behind the chart. */
  readonly table: () => Record<string, ArrayLike<string | number | null>>;
  readonly children: (width: number) => ComponentChildren;
}

export function Figure({ title, label, note, gene, height, table, children }: Props) {
  const host = useRef<HTMLDivElement>(null);
  const svg = useRef<SVGSVGElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const watcher = new ResizeObserver(([entry]) => setWidth(entry.contentRect.width));
    watcher.observe(host.current as HTMLElement);
    return () => watcher.disconnect();
  }, []);
  const name = fileName(facts.value?.experimentId ?? "", title);
  return (
    <figure class="figure">
      <figcaption>
        <span class="heading"><b class={gene ? "gene" : ""} title={title}>{visible(title)}</b></span>
        <span class="buttons">
          <button class="btn" onClick={() => saveText(`${name}.csv`, csvOf(table()), "text/csv")}>CSV</button>
          <button class="btn" onClick={() => svg.current && void saveFigure(name, svg.current, "svg")}>SVG</button>
          <button class="btn" onClick={() => svg.current && void saveFigure(name, svg.current, "png")}>PNG</button>
        </span>
        {note && <em class="under">{note}</em>}
      </figcaption>
      <div ref={host} class="figure-host">
        {width > 40 && <svg ref={svg} class="chart" width={width} height={height} role="img" aria-label={label}>{children(width)}</svg>}
      </div>
    </figure>
  );
}
