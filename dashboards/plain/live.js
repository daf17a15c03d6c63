// The conversation with a member: one WebSocket, JSON frames, reconnecting.
//
// A frame to the member is [floor, [[id, [operation, field, ...]], ...]]; one from it is
// [[cluster, member, term, revision], [item, ...]]. Items: [0, id, revision, result] answers,
// [1, id, code, message, details] refuses or ends a stream, [2, [id, ...], item] is an item of
// streams, [3, code, message] announces the end of the connection.

const RESULT = 0, FAILURE = 1, STREAM = 2, CLOSING = 3;
const FIRST_PAUSE_MS = 300, LONGEST_PAUSE_MS = 10_000, SILENCE_MS = 15_000;

export class Refusal extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export class Live {
  // `told` is called with "connected" or "disconnected" and the reason; `seen` with the header
  // of every frame.
  constructor(told, seen) {
    this.told = told;
    this.seen = seen;
    this.hello = null;
    this.client = sessionStorage.getItem("client") || 0;
    this.nextId = Date.now(); // ids count up for the life of a client, also across reloads
    this.waiting = new Map();
    this.streams = new Map();
    this.queue = [];
    this.attempts = 0;
    this.retryAt = 0;
    this.timer = 0;
    this.socket = null;
    this.heardAt = 0;
    setInterval(() => this.listen(), 5_000);
  }

  connect() {
    clearTimeout(this.timer);
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/v1/ws`, "coordinator.v1.json");
    this.socket = socket;
    this.reason = "";
    socket.onopen = () => this.greet();
    socket.onmessage = (message) => this.receive(socket, message.data);
    socket.onclose = (event) => this.lost(socket, this.reason || event.reason || "no answer");
  }

  // Try at once if an attempt is pending.
  hurry() {
    if (this.retryAt && this.socket === null) this.connect();
  }

  async greet() {
    this.heardAt = Date.now();
    try {
      const [, client, , , member, name, server] = await this.call(
        "hello", 1, this.client, 0, "page");
      this.client = client;
      sessionStorage.setItem("client", client);
      this.hello = { member, name, server };
      this.attempts = 0;
      this.retryAt = 0;
      this.told("connected", "");
    } catch (error) {
      this.reason = error.message;
      this.socket?.close();
    }
  }

  // Ask; resolves with the result's fields.
  call(...body) {
    return new Promise((resolve, reject) => this.send(body, { resolve, reject }));
  }

  // Open a stream: `item` gets what it brings, `ended` the reason of its end. Returns its id.
  open(body, item, ended) {
    const id = this.send(body, { resolve() {}, reject: (error) => this.end(id, error) });
    this.streams.set(id, { item, ended });
    return id;
  }

  cancel(id) {
    if (this.streams.delete(id)) this.send(["stream.cancel", id]);
  }

  credit(id, amount) {
    if (this.streams.has(id)) this.send(["stream.credit", id, amount]);
  }

  send(body, waiter) {
    const id = this.nextId++;
    if (waiter) this.waiting.set(id, waiter);
    if (this.queue.length === 0) queueMicrotask(() => this.flush());
    this.queue.push([id, body]);
    return id;
  }

  flush() {
    const requests = this.queue;
    this.queue = [];
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify([0, requests]));
    else for (const [id] of requests) this.refuse(id, new Refusal("closed", "not connected"));
  }

  receive(socket, text) {
    if (socket !== this.socket) return;
    this.heardAt = Date.now();
    const [header, items] = JSON.parse(text);
    this.seen({ cluster: header[0], member: header[1], term: header[2], revision: header[3] });
    for (const item of items) {
      if (item[0] === RESULT) {
        this.waiting.get(item[1])?.resolve(item[3]);
        this.waiting.delete(item[1]);
      } else if (item[0] === FAILURE) {
        const error = new Refusal(item[2], item[3]);
        if (!this.refuse(item[1], error)) this.end(item[1], error);
      } else if (item[0] === STREAM) {
        for (const id of item[1]) this.streams.get(id)?.item(item[2]);
      } else if (item[0] === CLOSING) {
        this.reason = item[2];
      }
    }
  }

  refuse(id, error) {
    const waiter = this.waiting.get(id);
    this.waiting.delete(id);
    waiter?.reject(error);
    return Boolean(waiter);
  }

  end(id, error) {
    const stream = this.streams.get(id);
    this.streams.delete(id);
    stream?.ended(error);
  }

  // A connection that is silent although it was asked for a sign of life is dead.
  listen() {
    if (this.socket?.readyState !== WebSocket.OPEN || !this.hello) return;
    if (Date.now() - this.heardAt > SILENCE_MS) {
      this.reason = "the member is silent";
      const socket = this.socket;
      socket.close();
      this.lost(socket, this.reason);
    } else this.call("ping").catch(() => {});
  }

  lost(socket, reason) {
    if (socket !== this.socket) return;
    this.socket = null;
    this.hello = null;
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    this.streams.clear();
    for (const waiter of waiting) waiter.reject(new Refusal("closed", reason));
    const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** this.attempts++);
    const pause = longest * (0.5 + Math.random() / 2);
    this.retryAt = Date.now() + pause;
    this.timer = setTimeout(() => this.connect(), pause);
    this.told("disconnected", reason);
  }
}

// ---------------------------------------------------------------- bytes and system keys

export function bytes(base64) {
  return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
}

export function base64(array) {
  return btoa(String.fromCharCode(...array));
}

// Bytes as text if they are text, as hexadecimal digits otherwise.
export function text(array) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(array);
  } catch {
    return "0x" + Array.from(array, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}

// A system key is a tuple: 0x02, text, 0x00 (zero bytes inside followed by 0xff), or 0x15 and
// eight bytes of a number.
export function unpack(key) {
  const parts = [];
  let at = 0;
  while (at < key.length) {
    const kind = key[at++];
    if (kind === 0x15) {
      parts.push(new DataView(key.buffer, key.byteOffset + at, 8).getBigUint64(0));
      at += 8;
    } else if (kind === 0x02) {
      const content = [];
      while (at < key.length && (key[at] !== 0 || key[at + 1] === 0xff)) {
        content.push(key[at]);
        at += key[at] === 0 ? 2 : 1;
      }
      at++;
      parts.push(text(Uint8Array.from(content)));
    } else return parts;
  }
  return parts;
}
