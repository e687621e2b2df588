// The platform's side of the wire: its Socket.IO server behind Redis, and browsers connected to it. It stays until its
// standard input ends.
//
// Standard input, one line of JSON each: first {redisUrl, browsers: [{generation: 2 or 4, transports}]}, then names of
// events to listen for. Standard output: {ready: port}, {listening: name}, and for each event that a browser hears
// {browser, event, kind, payload}; of an inline result, the payload is what the browser reads from it.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { decompress } from "fzstd";

const require = createRequire(import.meta.url);
const { Server } = require("socket.io");
const { createAdapter } = require("socket.io-redis");
const redis = require("redis");

const say = value => process.stdout.write(`${JSON.stringify(value)}\n`);

async function serve(redisUrl) {
  const pubClient = redis.createClient(redisUrl);
  const subClient = pubClient.duplicate();
  const subscribed = new Promise(resolve => subClient.once("psubscribe", resolve));
  const server = createServer();
  new Server(server, { allowEIO3: true, adapter: createAdapter({ pubClient, subClient }) });
  await subscribed;
  await new Promise(resolve => server.listen(0, "127.0.0.1", resolve));
  return server.address().port;
}

async function connect(port, { generation, transports }) {
  const client = require(`socket.io-client-${generation}`);
  const socket = client(`http://127.0.0.1:${port}`, { transports, forceNew: true });
  await new Promise((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once(generation === 2 ? "error" : "connect_error", reject);
  });
  return socket;
}

const ZSTD = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);

// As the platform's UI reads a payload.
function read(payload) {
  if (typeof payload !== "string") return payload;
  const bytes = Buffer.from(payload, "base64");
  return bytes.subarray(0, 4).equals(ZSTD) ? JSON.parse(new TextDecoder().decode(decompress(bytes))) : payload;
}

let sockets;
for await (const line of createInterface({ input: process.stdin })) {
  const said = JSON.parse(line);
  if (sockets === undefined) {
    const port = await serve(said.redisUrl);
    sockets = await Promise.all(said.browsers.map(browser => connect(port, browser)));
    say({ ready: port });
  } else {
    sockets.forEach((socket, browser) =>
      socket.on(said, payload => say({ browser, event: said, kind: typeof payload, payload: read(payload) })));
    say({ listening: said });
  }
}
process.exit(0);
