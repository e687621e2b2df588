// Data that is fetched once, in one of three states: loading, ready, failed.
import { signal, type ReadonlySignal, type Signal } from "@preact/signals";
import { CANCELLED, DoorError } from "../wire/door";

export type Loaded<T> =
  | { state: "loading" }
  | { state: "ready"; value: T }
  | { state: "failed"; code: string; message: string };

export function failureOf(error: unknown): { state: "failed"; code: string; message: string } {
  if (error instanceof DoorError) {
    const message = error.code === CANCELLED ? "Cancelled." : error.message;
    return { state: "failed", code: error.code, message };
  }
  console.error(error); // a bug of the page: its text is for a report
  return { state: "failed", code: "PAGE", message: `The page could not show this (${String(error)}).` };
}

/** Follows a promise as a signal. */
export function follow<T>(promise: Promise<T>): ReadonlySignal<Loaded<T>> {
  const out: Signal<Loaded<T>> = signal<Loaded<T>>({ state: "loading" });
  promise.then(
    (value) => (out.value = { state: "ready", value }),
    (error: unknown) => (out.value = failureOf(error)),
  );
  return out;
}

/** An LRU cache of `size` loads by key; a load that failed is repeated at the next request. */
export class Kept<T> {
  private readonly known = new Map<string, ReadonlySignal<Loaded<T>>>();

  constructor(private readonly size: number) {}

  get(key: string, make: () => Promise<T>): ReadonlySignal<Loaded<T>> {
    const found = this.known.get(key);
    if (found) {
      this.known.delete(key);
      this.known.set(key, found);
      return found;
    }
    const made = follow(make());
    this.known.set(key, made);
    if (this.known.size > this.size) this.known.delete(this.known.keys().next().value as string);
    return made;
  }

  forget(): void {
    this.known.clear();
  }
}
