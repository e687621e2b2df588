// A button that opens a small panel; Escape and a click elsewhere close it.
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";

interface Props {
  readonly label: ComponentChildren;
  readonly title: string;
  readonly kind?: string;
  readonly children: (close: () => void) => ComponentChildren;
}

const GAP_PX = 4;
const EDGE_PX = 8;

/** Puts a menu where the page shows it whole, whatever panel its button is in: near the place that its style gives it. */
function place(menu: HTMLElement, button: DOMRect): void {
  const wanted = menu.getBoundingClientRect();
  const left = Math.max(EDGE_PX, Math.min(wanted.left, window.innerWidth - wanted.width - EDGE_PX));
  const below = wanted.bottom <= window.innerHeight - EDGE_PX;
  const top = below ? wanted.top : Math.max(EDGE_PX, Math.min(button.top - GAP_PX - wanted.height, window.innerHeight - EDGE_PX - wanted.height));
  Object.assign(menu.style, { position: "fixed", left: `${left}px`, top: `${top}px`, right: "auto", bottom: "auto" });
}

export function Menu({ label, title, kind, children }: Props) {
  const [open, setOpen] = useState(false);
  const host = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (!open) return undefined;
    const ending = new AbortController();
    const { signal } = ending;
    const outside = (event: Event) => {
      if (!host.current?.contains(event.target as Node)) setOpen(false);
    };
    document.addEventListener("pointerdown", outside, { signal });
    host.current?.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      setOpen(false);
      host.current?.querySelector("button")?.focus();
    }, { signal });
    const menu = host.current?.querySelector<HTMLElement>(".menu");
    if (host.current && menu) place(menu, host.current.getBoundingClientRect());
    // the list below it moves away
    document.addEventListener("scroll", (event) => {
      if (event.target !== menu && (event.target as Node).contains(host.current)) setOpen(false);
    }, { signal, capture: true });
    menu?.querySelector<HTMLElement>("button, input, select")?.focus({ preventScroll: true });
    return () => {
      ending.abort();
      // an item was chosen, and gone with its menu: the focus stays where a person was
      if (document.activeElement === document.body) host.current?.querySelector("button")?.focus();
    };
  }, [open]);
  return (
    <div class="menu-host" ref={host}>
      <button class={kind ?? "btn"} aria-haspopup="true" aria-expanded={open} aria-label={typeof label === "string" ? undefined : title} title={title} onClick={() => setOpen(!open)}>
        {label}
      </button>
      {open && <div class="pill menu">{children(() => setOpen(false))}</div>}
    </div>
  );
}

interface ItemProps {
  readonly children: ComponentChildren;
  readonly onClick: () => void;
  readonly on?: boolean;
  readonly disabled?: boolean;
}

export function MenuItem({ children, onClick, on, disabled }: ItemProps) {
  return (
    <button class={`item ${on ? "on" : ""}`} aria-current={on} disabled={disabled} onClick={onClick}>
      {children}
    </button>
  );
}
