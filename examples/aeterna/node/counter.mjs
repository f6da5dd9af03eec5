// A counter that survives its own replacement, with nothing but LISTEN_FDS and docs/srp.md.
//
// Each client that connects gets the next number. An upgrade hands the count to the next process, which may be written
// in another language.
import { createHash } from "node:crypto";
import net from "node:net";

const MAGIC = 0xae7e2024;
const [HELLO, PREPARE, OFFER, PART, CHUNK, END, PREPARED, COMMIT, INSTALLED, RELEASE, READY, DONE, ABORT, RESUME, COLD] = [
  0x01, 0x11, 0x12, 0x13, 0x14, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f,
];

let count = 0;
let owner = false;
let frozen = false;
let waiting = []; // clients that connected while this process stands still

function answer(socket) {
  if (frozen) waiting.push(socket);
  else socket.end(`${++count} node\n`);
}

const server = net.createServer(answer);
server.on("connection", (socket) => socket.on("error", () => {}));

function serve() {
  const inherited = process.env.LISTEN_PID === String(process.pid);
  server.listen(inherited ? { fd: 3 } : { host: "127.0.0.1", port: 8080 });
}

function thaw() {
  frozen = false;
  for (const socket of waiting.splice(0)) answer(socket);
}

// Node cannot stop accepting and begin again on an inherited descriptor. So clients that were accepted while the process
// stood still are connected to the successor: once this server is closed, only the successor listens at the address.
function retire() {
  const address = server.address();
  server.close();
  for (const socket of waiting.splice(0)) {
    const onward = net.connect(typeof address === "string" ? { path: address } : { port: address.port, host: address.address });
    onward.on("error", () => socket.destroy());
    socket.pipe(onward).pipe(socket);
  }
}

const path = process.env.AETERNA_STATE_SOCK;
if (!path) {
  owner = true;
  serve();
} else {
  converse(net.connect(path.startsWith("@") ? { path: "\0" + path.slice(1) } : { path }));
}

function converse(broker) {
  const send = (type, payload) => {
    const header = Buffer.alloc(12);
    header.writeUInt32BE(8 + payload.length, 0);
    header.writeUInt32BE(MAGIC, 4);
    header[8] = 2;
    header[9] = type;
    broker.write(Buffer.concat([header, payload]));
  };
  const say = (type, message) => send(type, Buffer.from(JSON.stringify(message)));

  let buffer = Buffer.alloc(0);
  let part, chunks, session;
  say(HELLO, { token: process.env.AETERNA_TOKEN, schema: "counter", version: 1, fds: false });

  broker.on("error", () => {});
  broker.on("close", () => {
    if (!owner) process.exit(7); // the broker is gone before this process owned anything
    thaw();
  });
  broker.on("data", (data) => {
    buffer = Buffer.concat([buffer, data]);
    while (buffer.length >= 12 && buffer.length >= 4 + buffer.readUInt32BE(0)) {
      const length = 4 + buffer.readUInt32BE(0);
      if (buffer.readUInt32BE(4) !== MAGIC || buffer[8] !== 2) return broker.destroy();
      const payload = buffer.subarray(12, length);
      const type = buffer[9];
      buffer = buffer.subarray(length);
      hear(type, payload);
    }
  });

  function hear(type, payload) {
    const message = type === CHUNK ? {} : JSON.parse(payload);
    session = message.session ?? session;
    switch (type) {
      case PART:
        part = message;
        chunks = Buffer.alloc(0);
        break;
      case CHUNK:
        chunks = Buffer.concat([chunks, payload]);
        if (chunks.length === part.size) load();
        break;
      case END:
      case COLD:
        say(PREPARED, { session });
        break;
      case COMMIT:
        say(INSTALLED, { session });
        break;
      case RELEASE:
        owner = true;
        serve();
        say(READY, { session });
        break;
      case PREPARE:
        hand_over();
        break;
      case RESUME:
        thaw();
        break;
      case ABORT:
        if (!owner) process.exit(7);
        thaw();
        break;
      case DONE:
        retire();
        break;
    }
  }

  function load() {
    if (createHash("sha256").update(chunks).digest("hex") !== part.sha256)
      return say(ABORT, { session, reason: "corrupt", text: "the checksum does not match" });
    const where = JSON.parse(chunks.subarray(0, part.manifest)).set.count;
    if (where) count = JSON.parse(chunks.subarray(part.manifest + where[0], part.manifest + where[0] + where[1]));
  }

  function hand_over() {
    frozen = true;
    const value = Buffer.from(JSON.stringify(count));
    const manifest = Buffer.from(JSON.stringify({ set: { count: [0, value.length, "json"] }, drop: [] }));
    const state = Buffer.concat([manifest, value]);
    const sha256 = createHash("sha256").update(state).digest("hex");
    say(OFFER, { session, schema: "counter", version: 1 });
    say(PART, { session, size: state.length, manifest: manifest.length, sha256, memfd: false });
    send(CHUNK, state);
    say(END, { session, parts: 1, connections: 0 });
  }
}
