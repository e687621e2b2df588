// The worker's events: Engine.IO 4 and Socket.IO over one websocket, which reconnects by itself.
import { signal } from "@preact/signals";

export type Connection = "connecting" | "connected" | "lost";
type Listener = (payload: unknown) => void;

/** State of the connection to the worker. */
export const connection = signal<Connection>("connecting");

const listeners = new Map<string, Set<Listener>>();
const heard = new Map<string, unknown>(); // late listeners get the last results: one may come before its name is known
const MAX_HEARD = 50;
const RETRY_MS = 800;
const reconnects = new Set<() => void>();

/** Calls a listener for each event of a name; returns a function that ends that. */
export function listen(name: string, listener: Listener): () => void {
  const own = listeners.get(name) ?? new Set();
  listeners.set(name, own.add(listener));
  if (heard.has(name)) {
    listener(heard.get(name));
    heard.delete(name);
  }
  return () => {
    own.delete(listener);
    if (!own.size) listeners.delete(name);
  };
}

/** Calls back whenever the connection is there again after it was lost. */
export function whenReconnected(callback: () => void): () => void {
  reconnects.add(callback);
  return () => reconnects.delete(callback);
}

/** Resolves once the socket is open: the answer to an earlier request would be missed. */
export function listening(): Promise<void> {
  return new Promise((resolve) => {
    const ending = connection.subscribe((state) => {
      if (state !== "connected") return;
      resolve();
      queueMicrotask(() => ending());
    });
  });
}

function dispatch(name: string, payload: unknown): void {
  const own = listeners.get(name);
  if (own) for (const listener of [...own]) listener(payload);
  else if (name.startsWith("WorkResponse-")) {
    heard.set(name, payload);
    if (heard.size > MAX_HEARD) heard.delete(heard.keys().next().value as string);
  }
}

function opened(): void {
  const before = connection.value;
  connection.value = "connected";
  if (before === "lost") for (const callback of [...reconnects]) callback();
}

export function connect(): void {
  const address = new URL("./socket.io/?EIO=4&transport=websocket", document.baseURI).href.replace(/^http/, "ws");
  const socket = new WebSocket(address);
  socket.onmessage = (message) => {
    const text = String(message.data);
    if (text[0] === "0") socket.send("40");
    else if (text === "2") socket.send("3");
    else if (text.startsWith("40")) opened();
    else if (text.startsWith("42")) {
      const [name, payload] = JSON.parse(text.slice(2)) as [string, unknown];
      dispatch(name, payload);
    }
  };
  socket.onclose = () => {
    if (connection.value === "connected") connection.value = "lost";
    setTimeout(connect, RETRY_MS);
  };
}
