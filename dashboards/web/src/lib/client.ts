/**
 * A client of the coordinator's WebSocket: calls, streams, and the way to another member.
 *
 * A message to a member is `[floor, [[id, [operation, field, ...]], ...]]`, one from it
 * `[[cluster, member, term, revision, members], [item, ...]]`. Ids count up for the life of the
 * client. A change that was sent when the connection broke is sent again under its id, and applied
 * once: after a reconnect nothing is asked twice and nothing is lost.
 */

import { decodeAnswer, encodeRequest } from "./codec";
import type { Calls, HelloResult, Id, LoginResult, Streams } from "./protocol";

const SUBPROTOCOL = "coordinator.v1.json";
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;
const PING_MS = 2_000;
const SILENCE_MS = 6_000;
const GREETING_MS = 4_000;
/** A member that knows us no more so soon after it greeted us will not know us on the next try. */
const KNOWN_MS = 1_000;
const RESULT = 0;
const FAILURE = 1;
const STREAM = 2;
const CLOSING = 3;
const NO_ID = "0000000000000000";

/** A request was refused; `code` is stable, see docs/errors.md. */
export class Refusal extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly details: Record<string, unknown> = {},
  ) {
    super(message);
  }
}

/** Who answered, and where it stood. */
export interface Header {
  cluster: Id;
  member: Id;
  term: number;
  revision: number;
}

export interface Handlers {
  /** A member has greeted us: streams may be opened. */
  connected(hello: HelloResult): void;
  /** The connection is gone; every stream with it. Another is being made. */
  disconnected(reason: string): void;
  /** The member wants to know who we are first; `retry` once it can. */
  unauthenticated(reason: string): void;
  /** Something has arrived. */
  seen(header: Header): void;
}

interface Call {
  operation: string;
  body: unknown[];
  /** False for what only makes sense on this very connection. */
  isLasting: boolean;
  isSent: boolean;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

interface Open {
  operation: string;
  item(value: unknown): void;
  ended(error: Refusal): void;
}

/** An open stream. */
export interface Stream {
  /** Let the member send that many items more. */
  credit(amount: number): void;
  /** End it. */
  cancel(): void;
}

export class Client {
  /** The greeting of the member that serves us; null while there is none. */
  hello: HelloResult | null = null;
  #endpoints: string[];
  #at = 0;
  #socket: WebSocket | null = null;
  #client: Id = NO_ID;
  #cluster: Id = NO_ID;
  #nextId = 1;
  #pending = new Map<number, Call>();
  #streams = new Map<number, Open>();
  #queue: [number, unknown[]][] = [];
  #failures = 0;
  #timer = 0;
  #heardAt = 0;
  #greetedAt = 0;
  #reason = "";
  #password: { user: string; password: string } | null = null;
  #token = "";

  /**
   * @param endpoints The URLs of members; more are learned from the first that answers.
   * @param agent What the cluster knows this client as.
   */
  constructor(
    endpoints: string[],
    private readonly agent: string,
    private readonly handlers: Handlers,
  ) {
    this.#endpoints = endpoints;
    setInterval(() => this.#listen(), PING_MS);
  }

  /** Where members are tried, in this order. */
  get endpoints(): readonly string[] {
    return this.#endpoints;
  }

  /** Hear of members: theirs are the endpoints that are tried from now on. */
  learn(urls: string[]): void {
    const current = this.#endpoints[this.#at];
    const known = [...new Set(urls.map((url) => url.replace(/\/+$/, "")))];
    if (!known.length || known.join() === this.#endpoints.join()) return;
    if (current && !known.includes(current)) known.unshift(current);
    this.#endpoints = known;
    this.#at = Math.max(0, known.indexOf(current ?? ""));
  }

  /** Connect, as a user who proves itself by a password unless a cookie does. */
  connect(password: { user: string; password: string } | null = null): void {
    if (password) this.#password = password;
    clearTimeout(this.#timer);
    this.#timer = 0;
    const url = new URL("/v1/ws", this.#endpoints[this.#at]);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, SUBPROTOCOL);
    this.#socket = socket;
    this.#reason = "";
    this.#heardAt = Date.now();
    socket.onopen = () => void this.#greet(socket);
    socket.onmessage = (message) => this.#receive(socket, message.data as string);
    socket.onclose = (event) => this.#lost(socket, this.#reason || event.reason || "no answer");
    setTimeout(() => {
      if (socket === this.#socket && !this.hello && !this.#reason) this.#drop("no answer");
    }, GREETING_MS);
  }

  /** Try at once if an attempt is pending. */
  hurry(): void {
    if (this.#timer) this.connect();
  }

  /**
   * Connect to the same member anew, with the cookie as it is now. Streams end and `connected` tells
   * when they may be opened again; what waits for an answer gets it on the new connection.
   */
  again(): void {
    const socket = this.#socket;
    if (!socket || !this.hello) return;
    this.#forget("connecting anew");
    socket.close();
    this.connect();
  }

  /** Ask. What is not answered when the connection breaks is asked again on the next one. */
  call<K extends keyof Calls>(operation: K, request: Calls[K][0]): Promise<Calls[K][1]> {
    return this.#ask(operation, request, true) as Promise<Calls[K][1]>;
  }

  /** Open a stream. It ends with the connection at the latest. */
  open<K extends keyof Streams>(
    operation: K,
    request: Streams[K][0],
    item: (value: Streams[K][1]) => void,
    ended: (error: Refusal) => void,
  ): Stream {
    const body = encodeRequest(operation, request);
    const id = this.#nextId++;
    this.#streams.set(id, { operation, item: item as (value: unknown) => void, ended });
    if (this.hello) this.#send(id, body);
    else queueMicrotask(() => this.#end(id, new Refusal("closed", "not connected")));
    return {
      credit: (amount) => {
        if (this.#streams.has(id)) this.#send(this.#nextId++, ["stream.credit", id, amount]);
      },
      cancel: () => {
        if (this.#streams.delete(id) && this.hello) {
          this.#send(this.#nextId++, ["stream.cancel", id]);
        }
      },
    };
  }

  #ask(operation: string, request: object, isLasting: boolean): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const body = encodeRequest(operation, request);
      const id = this.#nextId++;
      this.#pending.set(id, {
        operation,
        body,
        isLasting,
        isSent: this.hello !== null,
        resolve,
        reject,
      });
      if (this.hello || !isLasting) this.#send(id, body);
    });
  }

  async #greet(socket: WebSocket): Promise<void> {
    try {
      await this.#prove();
      const hello = (await this.#ask(
        "hello",
        { client: this.#client, cluster: this.#cluster, agent: this.agent },
        false,
      )) as HelloResult;
      if (socket !== this.#socket) return;
      this.#client = hello.client;
      this.#cluster = hello.cluster;
      this.#failures = 0;
      this.#greetedAt = Date.now();
      this.hello = hello;
      this.learn(hello.endpoints.length ? hello.endpoints : [...this.#endpoints]);
      this.#sendAgain(hello.resumed);
      this.handlers.connected(hello);
    } catch (error) {
      if (socket !== this.#socket) return;
      const code = error instanceof Refusal ? error.code : "";
      this.#reason = (error as Error).message;
      if (code === "cluster_mismatch") this.#client = this.#cluster = NO_ID;
      if (code === "unauthenticated" || code === "invalid_token") {
        this.#socket = null;
        socket.close();
        this.#token = "";
        this.handlers.unauthenticated(this.#reason);
      } else socket.close();
    }
  }

  async #prove(): Promise<void> {
    if (this.#password) {
      const password = this.#password;
      this.#password = null;
      const { token } = (await this.#ask("auth.login", password, false)) as LoginResult;
      this.#token = token;
    } else if (this.#token) {
      await this.#ask("auth.reauthenticate", { token: this.#token }, false);
    }
  }

  /**
   * What waited for an answer or for a connection goes out under the id that it had. If the cluster
   * has forgotten us, it may not know any more what it has applied: then only what never went out.
   */
  #sendAgain(isKnown: boolean): void {
    for (const [id, call] of [...this.#pending]) {
      if (!call.isLasting) continue;
      if (call.isSent && !isKnown) {
        this.#pending.delete(id);
        call.reject(new Refusal("outcome_unknown", "the connection broke before the answer came"));
        continue;
      }
      call.isSent = true;
      this.#send(id, call.body);
    }
  }

  #send(id: number, body: unknown[]): void {
    if (this.#queue.length === 0) queueMicrotask(() => this.#flush());
    this.#queue.push([id, body]);
  }

  #flush(): void {
    const requests = this.#queue;
    this.#queue = [];
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    let floor = this.#nextId;
    for (const id of this.#pending.keys()) floor = Math.min(floor, id);
    this.#socket.send(JSON.stringify([floor, requests]));
  }

  #receive(socket: WebSocket, text: string): void {
    if (socket !== this.#socket) return;
    this.#heardAt = Date.now();
    const [[cluster, member, term, revision], items] = JSON.parse(text) as [
      [Id, Id, number, number],
      unknown[][],
    ];
    this.handlers.seen({ cluster, member, term, revision });
    for (const item of items) this.#take(item);
  }

  #take(item: unknown[]): void {
    if (item[0] === RESULT) {
      const id = item[1] as number;
      const call = this.#pending.get(id);
      this.#pending.delete(id);
      call?.resolve(decodeAnswer(call.operation, item[3]));
    } else if (item[0] === FAILURE) {
      const [, id, code, message, details] = item as [number, number, string, string, object];
      const error = new Refusal(code, message, { ...details });
      const call = this.#pending.get(id);
      this.#pending.delete(id);
      if (call) call.reject(error);
      else this.#end(id, error);
      // What proved who we are has run out: the next connection has a newer one, or has us asked.
      if (code === "unauthenticated" && Date.now() - this.#greetedAt > KNOWN_MS) this.again();
    } else if (item[0] === STREAM) {
      for (const id of item[1] as number[]) {
        const open = this.#streams.get(id);
        open?.item(decodeAnswer(open.operation, item[2]));
      }
    } else if (item[0] === CLOSING) {
      this.#reason = item[2] as string;
    }
  }

  #end(id: number, error: Refusal): void {
    const open = this.#streams.get(id);
    this.#streams.delete(id);
    open?.ended(error);
  }

  /** A connection that is silent although it was asked for a sign of life is dead. */
  #listen(): void {
    if (!this.hello) return;
    if (Date.now() - this.#heardAt > SILENCE_MS) this.#drop("the member is silent");
    else this.#ask("ping", {}, false).catch(() => undefined);
  }

  #drop(reason: string): void {
    const socket = this.#socket;
    this.#reason = reason;
    socket?.close();
    if (socket) this.#lost(socket, reason);
  }

  #lost(socket: WebSocket, reason: string): void {
    if (socket !== this.#socket) return;
    const wasGreeted = this.hello !== null;
    this.#forget(reason);
    // The other members at once, one after the other; then again, with longer and longer pauses.
    this.#at = (this.#at + 1) % this.#endpoints.length;
    const round = Math.floor(++this.#failures / this.#endpoints.length);
    const isFresh = this.#failures < this.#endpoints.length;
    const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** round);
    const pause = isFresh ? 0 : longest * (0.5 + Math.random() / 2);
    this.#timer = window.setTimeout(() => this.connect(), pause);
    if (wasGreeted || this.#failures === 1) this.handlers.disconnected(reason);
  }

  /** Have no connection: streams end, and what makes sense only there is not answered any more. */
  #forget(reason: string): void {
    this.#socket = null;
    this.hello = null;
    this.#queue = [];
    const error = new Refusal("closed", reason);
    for (const [id, call] of [...this.#pending]) {
      if (call.isLasting) continue;
      this.#pending.delete(id);
      call.reject(error);
    }
    const streams = [...this.#streams.values()];
    this.#streams.clear();
    for (const open of streams) open.ended(error);
  }
}
