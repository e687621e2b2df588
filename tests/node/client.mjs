// Requests as the platform's UI makes them, with real Socket.IO clients. Prints what each heard, as one line of JSON.
//
// Standard input is JSON: {url, experimentId, cases: [{generation: 2 or 4, transports, atOnce, body}]}.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { decompress } from "fzstd";

const require = createRequire(import.meta.url);
const decode = bytes => JSON.parse(new TextDecoder().decode(decompress(bytes)));

async function ask(url, experimentId, { generation, transports, atOnce, body }) {
  const socket = require(`socket.io-client-${generation}`)(url, { transports, forceNew: true, reconnection: false });
  const first = socket.io.engine.transport.name;
  const upgraded = new Promise(resolve => {
    if (transports.length === 1) resolve();
    else socket.io.engine.once("upgrade", resolve);
  });
  await new Promise((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once(generation === 2 ? "error" : "connect_error", reject);
  });
  if (!atOnce) await upgraded;

  const story = [];
  socket.on(`Heartbeat-${experimentId}`, beat => story.push(beat.status_code));
  const response = await fetch(`${url}/v2/workRequest/${experimentId}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: "Bearer node.test.token" },
    body: JSON.stringify({
      experimentId,
      timeout: new Date(Date.now() + 60_000).toISOString(),
      body,
      requestProps: { broadcast: false, cacheUniquenessKey: Math.random() },
    }),
  });
  const { data } = await response.json();
  // Listening begins here, after the answer, as in the UI.
  const payload = await new Promise(resolve => socket.once(`WorkResponse-${data.ETag}`, resolve));
  story.push("WorkResponse");
  await upgraded;
  const last = socket.io.engine.transport.name;
  socket.close();

  const kind = typeof payload;
  const bytes = kind === "string"
    ? Buffer.from(payload, "base64")
    : new Uint8Array(await (await fetch(payload.response.signedUrl)).arrayBuffer());
  return { first, last, story, kind, signedUrl: data.signedUrl, result: decode(bytes) };
}

const { url, experimentId, cases } = JSON.parse(readFileSync(0, "utf8"));
const heard = [];
for (const one of cases) heard.push(await ask(url, experimentId, one));
console.log(JSON.stringify(heard));
