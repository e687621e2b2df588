// The page's icons: strokes on a grid of 16.
const PATHS = {
  lasso: "M3 9c0-4 4-6 7-5s4 5 1 7-6 1-6 3",
  rectangle: "M3 3h10v10H3z",
  gate: "M2.5 2v11.5h11.5M5 11h.01M7 5.5h4.5v4.5H7zM8.5 7h.01M10.2 8.5h.01M5.5 8.5h.01",
  pan: "M8 2v12M2 8h12M8 2 6 4M8 2l2 2M8 14l-2-2M8 14l2-2M2 8l2-2M2 8l2 2M14 8l-2-2M14 8l-2 2",
  fit: "M2 6V2h4M14 6V2h-4M2 10v4h4M14 10v4h-4",
  plus: "M8 2v12M2 8h12",
  close: "M4 4l8 8M12 4l-8 8",
  undo: "M6 3 3 6l3 3M3 6h6a4 4 0 0 1 0 8H7",
  redo: "m10 3 3 3-3 3M13 6H7a4 4 0 0 0 0 8h2",
  theme: "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6M8 1v2M8 13v2M1 8h2M13 8h2M3 3l1.4 1.4M11.6 11.6 13 13M3 13l1.4-1.4M11.6 4.4 13 3",
  down: "M3 6l5 5 5-5",
  right: "M6 3l5 5-5 5",
  save: "M8 2v8M4.5 7 8 10.5 11.5 7M3 13h10",
  eye: "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8M8 6a2 2 0 1 0 0 4 2 2 0 0 0 0-4",
  more: "M3 8h.01M8 8h.01M13 8h.01",
  help: "M6 6a2 2 0 1 1 3 1.7c-.7.4-1 .8-1 1.6M8 12h.01",
  left: "M10 3 5 8l5 5",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
      <path d={PATHS[name]} stroke-dasharray={name === "rectangle" ? "2 2" : undefined} />
    </svg>
  );
}

interface ButtonProps {
  readonly name: IconName;
  readonly label: string;
  readonly onClick: (event: MouseEvent) => void;
  readonly on?: boolean;
  readonly disabled?: boolean;
}

export function IconButton({ name, label, onClick, on, disabled }: ButtonProps) {
  return (
    <button class={`ib ${on ? "on" : ""}`} aria-label={label} aria-pressed={on} title={label} disabled={disabled} onClick={onClick}>
      <Icon name={name} />
    </button>
  );
}
