// The look of waiting and of failures.
export function Waiting({ text }: { text: string }) {
  return (
    <div class="state waiting" role="status">
      <span class="spinner" aria-hidden="true" />
      {text} …
    </div>
  );
}

export function Failure({ message, small }: { message: string; small?: boolean }) {
  return (
    <div class={`state failure ${small ? "small" : ""}`} role="alert">
      {message}
    </div>
  );
}

export function Hint({ children }: { children: preact.ComponentChildren }) {
  return <p class="hint">{children}</p>;
}
