// The official client against examples/chat: node rooms.mjs URL TRANSPORT. Two clients in one room, one in another.
import { io } from "socket.io-client";
import assert from "node:assert/strict";
import { once } from "node:events";

const [url, transport] = process.argv.slice(2);
const PATIENCE = 20_000;
const options = { transports: [transport], forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 100 };

/** A client that keeps what it hears. */
class Client {
  constructor() {
    this.heard = [];
    this.socket = io(url, options);
    this.socket.on("my response", (...args) => this.heard.push(args));
  }
  connected() {
    return this.socket.connected ? null : once(this.socket, "connect");
  }
  ask(name, data) {
    return this.socket.timeout(PATIENCE).emitWithAck(name, data);
  }
  /** Waits until so many events are heard; gives their texts. */
  async texts(count) {
    const until = Date.now() + PATIENCE;
    while (this.heard.length < count && Date.now() < until) await new Promise((done) => setTimeout(done, 10));
    return this.heard.map(([response]) => response.text);
  }
}

const [ada, bob, eve] = [new Client(), new Client(), new Client()];
for (const [client, room] of [[ada, "tea"], [bob, "tea"], [eve, "coffee"]]) {
  await client.connected();
  assert.ok((await client.ask("join", room)).cursor, "joined");
}
assert.equal(ada.socket.io.engine.transport.name, transport);

const texts = Array.from({ length: 20 }, (_, i) => `text ${i} ☕ "quoted"`);
for (const text of texts) assert.match((await ada.ask("my event", { room: "tea", text })).id, /^[0-9a-f-]{36}$/);
for (const client of [ada, bob]) {
  assert.deepEqual(await client.texts(texts.length), texts, "everybody in the room, in order");
  assert.deepEqual(client.heard.map(([{ number }]) => number), texts.map((_, i) => i + 1), "each once");
  assert.ok(client.heard.every((args) => args.length === 1 && args[0].room === "tea" && args[0].from));
}
assert.deepEqual(eve.heard, [], "nobody in another room");

const refused = await ada.ask("join", { no: "room" });
assert.equal(refused.error.status, 400, "mistakes come back as problems");

// The connection is lost: the client comes back by itself, joins again, and hears what comes then.
const back = once(bob.socket, "connect");
bob.socket.io.engine.close();
await back;
await bob.ask("join", "tea");
bob.heard.length = 0;
// Without an acknowledgement.
ada.socket.emit("my event", { room: "tea", text: "again" });
assert.deepEqual(await bob.texts(1), ["again"]);

// A marker in the other room: had anything else been for it, it would have come before.
await eve.ask("my event", { room: "coffee", text: "marker" });
assert.deepEqual(await eve.texts(1), ["marker"]);
assert.equal((await ada.texts(texts.length + 1)).length, texts.length + 1);
for (const client of [ada, bob, eve]) client.socket.disconnect();
console.log("ok");
