// The widget's half of the explorer in a notebook: a frame with the page. A browser on the kernel's machine asks the
// door by its port; any other asks through the notebook's own connection (relay.py has the other half).

const LOCAL = ["localhost", "127.0.0.1"];
const SILENCE_MS = 8000;
const WITHOUT_BODY = [204, 304];

/** One page's requests and sockets, in messages between this view and the kernel. */
class Relay {
  constructor(model, name) {
    this.model = model;
    this.name = name;
    this.count = 0;
    this.waiting = new Map();
    this.hear = (said, buffers) => this.waiting.get(said.id)?.(said, buffers?.[0]);
    model.on("msg:custom", this.hear);
  }

  begin(said, listener) {
    const id = `${this.name}-${++this.count}`;
    this.waiting.set(id, listener);
    this.model.send({ ...said, id });
    return id;
  }

  tell(kind, id, more = {}) {
    this.model.send({ kind, id, ...more });
  }

  /** Resolves to { status, reason, type, body } once the whole answer is here. */
  request(path, { method = "GET", headers = {}, body = null, signal = null } = {}) {
    return new Promise((resolve, reject) => {
      const pieces = [];
      let head = null;
      const end = () => {
        this.waiting.delete(id);
        signal?.removeEventListener("abort", stop);
      };
      const stop = () => (end(), this.tell("cancel", id), reject(new DOMException("Cancelled.", "AbortError")));
      const id = this.begin({ kind: "request", method, path, headers, body }, (said, buffer) => {
        if (said.kind === "failed") return end(), reject(new TypeError("The door does not answer."));
        head ??= said;
        if (buffer) pieces.push(buffer);
        if (said.last) end(), resolve({ ...head, body: new Blob(pieces) });
        else this.tell("more", id);
      });
      if (signal?.aborted) stop();
      else signal?.addEventListener("abort", stop);
    });
  }

  /** Forgets what a page asked that is gone. */
  leave() {
    this.waiting.clear();
    this.model.send({ kind: "leave", name: this.name });
  }

  close() {
    this.leave();
    this.model.off("msg:custom", this.hear);
  }
}

/** What the page knows of WebSocket, over the relay. */
function socketOver(relay, base) {
  return class {
    constructor(address) {
      const path = address.replace(/^ws/, "http").slice(base.length);
      this.id = relay.begin({ kind: "open", path }, (said) => {
        if (said.kind === "text") return this.onmessage?.({ data: said.text });
        relay.waiting.delete(this.id);
        this.onclose?.({});
      });
    }

    send(text) {
      relay.tell("send", this.id, { text });
    }
  };
}

/** Turns the page's ways out to the relay: requests, its socket, files to download. */
function redirect(win, relay, base) {
  const ask = async (address, init) => {
    const { status, reason, type, etag, body } = await relay.request(String(address).slice(base.length), init);
    const headers = { "Content-Type": type, ETag: etag };
    return new win.Response(WITHOUT_BODY.includes(status) ? null : body, { status, statusText: reason, headers });
  };
  win.fetch = ask;
  win.WebSocket = socketOver(relay, base);
  win.document.addEventListener("click", async (event) => {
    const link = event.target.closest?.("a[download]");
    if (!link?.href.startsWith(base)) return;
    event.preventDefault();
    const { body, disposition } = await relay.request(link.href.slice(base.length));
    const named = /filename="?([^";]+)/.exec(disposition ?? "")?.[1];
    const saving = win.document.createElement("a");
    saving.href = win.URL.createObjectURL(body);
    saving.download = named ?? "download";
    saving.click();
    setTimeout(() => win.URL.revokeObjectURL(saving.href), 60_000);
  }, true);
}

/** Puts the page into an empty frame: its bundle comes the way that its data does. */
async function fill(win, relay, base) {
  const text = async (path) => (await relay.request(path.replace("./", ""))).body.text();
  const page = new DOMParser().parseFromString(await text(""), "text/html");
  const own = (selector, attribute) => [...page.querySelectorAll(selector)].map((item) => item.getAttribute(attribute));
  const styles = await Promise.all(own("link[rel=stylesheet]", "href").map(text));
  const scripts = await Promise.all(own("script[src]", "src").map(text));
  const made = win.document;
  made.head.append(...styles.map((css) => Object.assign(made.createElement("style"), { textContent: css })));
  made.body.append(Object.assign(made.createElement("div"), { id: "page" }));
  redirect(win, relay, base);
  for (const script of scripts) {
    const source = win.URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    made.body.append(Object.assign(made.createElement("script"), { type: "module", src: source }));
  }
}

function say(el, text) {
  const said = document.createElement("p");
  said.setAttribute("role", "alert");
  said.textContent = text;
  el.append(said);
  return said;
}

function showThroughNotebook(model, el, frame, url) {
  const name = Math.random().toString(36).slice(2);
  const relay = new Relay(model, name);
  let place = "";
  frame.srcdoc = `<!doctype html><html lang="en"><head><meta charset="utf-8"><base href="${url}"></head><body></body></html>`;
  // A notebook that scrolls takes frames out and puts them back, and they load again.
  frame.addEventListener("load", () => {
    const win = frame.contentWindow;
    const waiting = setTimeout(() => {
      frame.hidden = true;
      const said = say(el, "The kernel does not answer yet: it is busy with another cell, or it has ended. The view begins when it is idle; after a restart run the cell again.");
      begun.finally(() => (said.remove(), (frame.hidden = false)));
    }, SILENCE_MS);
    if (place) win.history.replaceState(null, "", place);
    win.addEventListener("pagehide", () => ((place = win.location.href), relay.leave()));
    const begun = fill(win, relay, url);
    begun.catch(() => say(el, "The view was closed. Run the cell again.")).finally(() => clearTimeout(waiting));
  });
  el.append(frame);
  return () => relay.close();
}

const ENDED = "The kernel that shows this view has ended. Run the cell again.";

const ENDING_MS = 1000;
const ENDS_WITHIN = 20;

/**
 * Says it in the place of the page once the notebook has lost the widget's kernel: a restarted one has no such door.
 * The notebook hears of a restart before the old kernel has ended.
 */
function whenEnded(model, el, frame, reaches) {
  const look = (times) => {
    const again = () => times > 1 && frame.isConnected && setTimeout(() => look(times - 1), ENDING_MS);
    reaches().then(again, () => frame.isConnected && (frame.remove(), say(el, ENDED)));
  };
  const begin = () => look(ENDS_WITHIN);
  model.on("comm_live_update", begin);
  return () => model.off("comm_live_update", begin);
}

function render({ model, el }) {
  const local = LOCAL.includes(location.hostname);
  const url = `http://${local ? location.hostname : "127.0.0.1"}:${model.get("port")}${model.get("path")}`;
  const frame = document.createElement("iframe");
  frame.title = "cellworker explorer";
  frame.allow = "clipboard-write";
  frame.style.cssText = "display: block; width: 100%; border: 1px solid #8884; border-radius: 6px";
  const resized = () => (frame.style.height = `${model.get("height")}px`);
  resized();
  model.on("change:height", resized);
  let close = () => {};
  const through = () => (close = showThroughNotebook(model, el, frame, url));
  // The page is asked for under the name that the notebook itself is open under: browsers treat two names of this
  // machine as two sites. A notebook of another machine is not asked for at all: its port here is another program's.
  const reaches = () => fetch(`${url}health`, { mode: "no-cors" });
  if (local) reaches().then(() => ((frame.src = url), el.append(frame)), through);
  else through();
  const forget = whenEnded(model, el, frame, local ? reaches : () => Promise.reject(new Error(ENDED)));
  return () => (model.off("change:height", resized), forget(), close());
}

export default { render };
