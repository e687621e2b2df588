// A spot in a colour of the data.
export function Swatch({ color, round }: { color: string; round?: boolean }) {
  return <i class={round ? "swatch round" : "swatch"} aria-hidden="true" style={{ background: color }} />;
}
