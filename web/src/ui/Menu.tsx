// A button that opens a small panel; Escape and a click elsewhere close it.
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";

interface Props {
  readonly label: ComponentChildren;
  readonly title: string;
  readonly kind?: string;
  readonly children: (close: () => void) => ComponentChildren;
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
    host.current?.querySelector<HTMLElement>(".menu button, .menu input, .menu select")?.focus();
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
