// Files that the page makes: tables as CSV, figures as SVG and PNG.

export function saveBlob(name: string, blob: Blob): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 30_000);
}

export function saveText(name: string, text: string, type: string): void {
  saveBlob(name, new Blob([text], { type: `${type};charset=utf-8` }));
}

/** Makes a name of any text fit for a file: no path, no more than 80 characters. */
export function fileName(...parts: readonly string[]): string {
  const text = parts.join(" ").normalize("NFKC").replace(/[^\p{L}\p{N}.+-]+/gu, "-");
  return text.replace(/^[-.]+|[-.]+$/g, "").slice(0, 80) || "cellworker";
}

type Cell = string | number | null | undefined;

// The rule of src/cellworker/cli/formulas.py: a name from a file that begins like a formula must not become one in a
// spreadsheet, some of which take the wide characters for the same; text that is a number stays one.
const FORMULA = /^[=+\-@\t\r\n\uFF1D\uFF0B\uFF0D\uFF20]/;
const NUMBER = /^(?:[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?Inf)$/;

function csvCell(value: Cell): string {
  if (value === null || value === undefined || (typeof value === "number" && Number.isNaN(value))) return "";
  const text = String(value);
  const safe = typeof value === "string" && FORMULA.test(text) && !NUMBER.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** Writes columns of equal length as CSV, numbers in full. */
export function csvOf(columns: Readonly<Record<string, ArrayLike<Cell>>>, rows?: ArrayLike<number>): string {
  const names = Object.keys(columns);
  const count = rows ? rows.length : names.length ? columns[names[0]].length : 0;
  const lines = [names.map(csvCell).join(",")];
  for (let i = 0; i < count; i++) {
    const row = rows ? rows[i] : i;
    lines.push(names.map((name) => csvCell(columns[name][row])).join(","));
  }
  return `${lines.join("\n")}\n`;
}

const STYLES = [
  "fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linecap", "stroke-linejoin",
  "opacity", "font-family", "font-size", "font-weight", "text-anchor", "dominant-baseline", "paint-order",
] as const;

/** Returns a figure as a document of its own: what the page's style sheet says is written into it. */
export function svgText(svg: SVGSVGElement, background: string): string {
  const copy = svg.cloneNode(true) as SVGSVGElement;
  const originals = [svg, ...svg.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((element, i) => {
    const computed = getComputedStyle(originals[i]);
    for (const name of STYLES) {
      const value = computed.getPropertyValue(name);
      if (value) element.setAttribute(name, value);
    }
    element.removeAttribute("class");
    element.removeAttribute("tabindex");
  });
  const { width, height } = svg.getBoundingClientRect();
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", String(width));
  copy.setAttribute("height", String(height));
  if (!copy.getAttribute("viewBox")) copy.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const paper = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of [["width", "100%"], ["height", "100%"], ["fill", background]]) paper.setAttribute(name, value);
  copy.insertBefore(paper, copy.firstChild);
  return new XMLSerializer().serializeToString(copy);
}

const PNG_SCALE = 3;

/** Draws an SVG document into a PNG, three pixels for each of the page's. */
export async function pngOf(svg: string, width: number, height: number): Promise<Blob> {
  const address = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  try {
    const image = new Image();
    image.src = address;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(width * PNG_SCALE);
    canvas.height = Math.round(height * PNG_SCALE);
    const context = canvas.getContext("2d") as CanvasRenderingContext2D;
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("PNG"))), "image/png"));
  } finally {
    URL.revokeObjectURL(address);
  }
}

export function paper(): string {
  return getComputedStyle(document.documentElement).getPropertyValue("--panel").trim() || "#ffffff";
}

export async function saveSvgText(name: string, svg: string, kind: "png" | "svg", width: number, height: number): Promise<void> {
  if (kind === "svg") saveText(`${name}.svg`, svg, "image/svg+xml");
  else saveBlob(`${name}.png`, await pngOf(svg, width, height));
}

export async function saveFigure(name: string, svg: SVGSVGElement, kind: "png" | "svg"): Promise<void> {
  const { width, height } = svg.getBoundingClientRect();
  await saveSvgText(name, svgText(svg, paper()), kind, width, height);
}
