"use strict";
const at = id => document.getElementById(id);
const LARGEST = 8e6;         // characters that are parsed; of longer results the beginning is shown as it is
const heard = new Map();     // the latest results by ETag: one may come before the answer that tells its ETag
const here = location.href.replace(/console.*$/, "").replace(/\/$/, "");
let experiment = null, examples = {}, waiting = null, asked = 0;

function tell(text, bad) {
  const line = document.createElement("li"), time = document.createElement("time");
  time.textContent = new Date().toLocaleTimeString([], { hour12: false });
  line.append(time, text);
  if (bad) line.className = "bad";
  at("events").append(line);
  while (at("events").children.length > 500) at("events").firstChild.remove();
  line.scrollIntoView({ block: "nearest" });
}

// Events: Engine.IO 4 over one websocket. "0" opens, "2" is a ping, "42" an event.
function connect() {
  const socket = new WebSocket(new URL("./socket.io/?EIO=4&transport=websocket", location.href).href.replace(/^http/, "ws"));
  socket.onmessage = message => {
    const text = String(message.data);
    if (text[0] === "0") socket.send("40");
    else if (text === "2") socket.send("3");
    else if (text.startsWith("40")) connected(true);
    else if (text.startsWith("42")) hear(...JSON.parse(text.slice(2)));
  };
  socket.onclose = () => { connected(false); setTimeout(connect, 1500); };
}

function connected(yes) {
  at("dot").className = yes ? "dot on" : "dot";
  at("connection").textContent = yes ? "connected" : "connecting";
}

function hear(name, payload) {
  if (typeof payload !== "object") {
    tell(`${name}: result, ${payload.length.toLocaleString()} characters`);
  } else if (payload.response) {
    const { error, errorCode, userMessage } = payload.response;
    tell(error ? `${name}: ${errorCode}: ${userMessage}` : `${name}: ready`, error);
  } else {
    const percent = payload.progress_percent == null ? "" : ` (${payload.progress_percent} %)`;
    tell(`${payload.status_code}: ${payload.user_message}${percent}`);
  }
  if (name.startsWith("WorkResponse-")) {
    heard.set(name.slice(13), payload);
    if (heard.size > 20) heard.delete(heard.keys().next().value);
    settle();
  }
}

function settle() {
  if (!waiting || !heard.has(waiting)) return;
  const etag = waiting;
  waiting = null;
  answered(etag, heard.get(etag));
}

async function answered(etag, payload) {
  at("send").disabled = false;
  const response = typeof payload === "object" ? payload.response : null;
  if (response && response.error) return fail(`${response.errorCode}: ${response.userMessage}`);
  if (response && !response.cacheable) {
    at("result").textContent = "Done: the cell sets were changed.";
    facts("");
    return load();
  }
  return show(etag, false);
}

async function show(etag, repeated) {
  const response = await fetch(`./results/${etag}?decode=1`);
  if (!response.ok) return fail((await response.json()).message);
  const took = `${Math.round(performance.now() - asked)} ms${repeated ? ", from the store" : ""}`;
  const file = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") || "");
  if (file) {
    response.body.cancel();
    const link = document.createElement("a");
    link.href = `/results/${etag}`;
    link.textContent = `Save ${file[1]}`;
    at("result").replaceChildren(link);
    return facts(took);
  }
  const { text, whole } = await beginning(response);
  at("result").textContent = whole ? JSON.stringify(shortened(JSON.parse(text)), null, 2) : text.slice(0, 20000) + " …";
  facts(`${took}, ${whole ? text.length.toLocaleString() : "more than " + LARGEST.toLocaleString()} characters of JSON`);
}

async function beginning(response) {
  const reader = response.body.getReader(), decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { text: text + decoder.decode(), whole: true };
    text += decoder.decode(value, { stream: true });
    if (text.length > LARGEST) { reader.cancel(); return { text, whole: false }; }
  }
}

function shortened(value) {
  if (Array.isArray(value)) {
    const head = value.slice(0, 10).map(shortened);
    return value.length > 10 ? [...head, `… ${(value.length - 10).toLocaleString()} more`] : head;
  }
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, shortened(v)]));
  return value;
}

function facts(text) { at("facts").textContent = text; }

function fail(text) {
  at("send").disabled = false;
  const line = document.createElement("span");
  line.className = "bad";
  line.textContent = text;
  at("result").replaceChildren(line);
  facts("");
}

function question() { return { body: JSON.parse(at("body").value) }; }

function refresh() {
  try {
    const json = JSON.stringify(question()).replaceAll("'", "'\\''");
    at("curl").textContent = `curl -s ${here}/v2/workRequest/${experiment} -d '${json}'\n\n`
      + `# then, with the ETag of the answer:\ncurl -s '${here}/results/ETAG?decode=1'`;
  } catch { at("curl").textContent = "The body is not JSON."; }
}

function choose() {
  at("body").value = JSON.stringify(examples[at("task").value], null, 2);
  refresh();
}

async function load() {
  const response = await fetch("./console.json"), known = await response.json();
  if (!response.ok) return fail(known.message);
  experiment = known.experimentId;
  examples = known.examples;
  const { cells, genes, cellSets, writer, assay, fallbacks } = known.summary;
  at("summary").textContent = `${experiment}: ${cells.toLocaleString()} cells × ${genes.toLocaleString()} genes, ${writer || "unknown writer"}, assay ${assay}`;
  at("summary").title = fallbacks.join("\n");
  at("sets").textContent = cellSets.map(item => `${item.name} (${item.sets})`).join(", ") || "none";
  document.title = `${experiment} · cellworker`;
  if (!at("task").length) {
    at("task").append(...Object.keys(examples).map(name => new Option(name, name)));
    at("task").value = "ListGenes";
    choose();
  }
  at("send").disabled = false;
}

at("task").onchange = choose;
at("body").oninput = refresh;
at("form").onsubmit = async event => {
  event.preventDefault();
  let asking;
  try { asking = question(); } catch (problem) { return fail(`The body is not JSON: ${problem.message}`); }
  at("send").disabled = true;
  at("result").textContent = "…";
  facts("");
  heard.clear();
  asked = performance.now();
  try {
    const response = await fetch(`./v2/workRequest/${experiment}`, { method: "POST", body: JSON.stringify(asking) });
    const answer = await response.json();
    if (!response.ok) return fail(answer.message);
    tell(`asked ${asking.body.name}: ETag ${answer.data.ETag}`);
    if (answer.data.signedUrl) { at("send").disabled = false; return show(answer.data.ETag, true); }
    waiting = answer.data.ETag;
    settle();
  } catch (problem) { fail(`The worker does not answer: ${problem.message}`); }
};
if (new URLSearchParams(location.search).has("explorer")) {
  tell("The explorer is not part of this installation: its build could not reach the npm registry. 'make web' builds it.", true);
}
connect();
load().catch(problem => fail(`The worker does not answer: ${problem.message}`));
