/** The connection, and how all members stand: one client for the whole page. */

import { Client, Refusal, type Header } from "../lib/client";
import type { ClusterSample, HelloResult, MemberStanding } from "../lib/protocol";
import { inOrder } from "../lib/words";
import { Recent } from "./recent";

export type Connection = "connecting" | "live" | "disconnected" | "login";

const NOBODY = "0000000000000000";
const WATCH_AGAIN_MS = 1_000;

/** One point of the charts. */
export interface Point {
  /** Seconds of Unix time. */
  at: number;
  reads: number;
  writes: number;
  /** Milliseconds until a quorum had confirmed a read. */
  read: number;
  /** Milliseconds of the slowest round trip between members. */
  peers: number;
}

class Cluster {
  connection = $state<Connection>("connecting");
  reason = $state("");
  hello = $state.raw<HelloResult | null>(null);
  /** Counts connections; what was read over an earlier one may be old. */
  epoch = $state(0);
  revision = $state(0);
  /** The revision of the first greeting: what came later has changed under the reader's eyes. */
  opened = 0;
  /** When something was last heard, in milliseconds of Unix time. */
  heardAt = $state(0);
  sample = $state.raw<ClusterSample | null>(null);
  /** The last minutes, a point for each sample. */
  recent = $state.raw<readonly Point[]>([]);

  readonly client = new Client([location.origin], "dashboard", {
    connected: (hello) => this.#connected(hello),
    disconnected: (reason) => this.#disconnected(reason),
    unauthenticated: (reason) => {
      this.connection = "login";
      this.reason = reason;
    },
    seen: (header) => this.#seen(header),
  });

  #points = new Recent();
  #told: Header | null = null;

  constructor() {
    addEventListener("online", () => this.client.hurry());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.client.hurry();
    });
  }

  get isLive(): boolean {
    return this.connection === "live";
  }

  get hasLeader(): boolean {
    return this.sample !== null && this.sample.leader !== NOBODY;
  }

  get leader(): MemberStanding | undefined {
    return this.sample?.members.find((one) => one.member.member === this.sample?.leader);
  }

  /** How the member that serves this page stands. */
  get own() {
    return this.sample?.members.find((one) => one.member.member === this.sample?.member)?.status;
  }

  get last(): Point | undefined {
    return this.recent.at(-1);
  }

  memberName(id: string): string {
    const found = this.sample?.members.find((one) => one.member.member === id);
    return found?.member.name || id;
  }

  #connected(hello: HelloResult): void {
    this.hello = hello;
    if (!this.epoch && this.#told) this.opened = this.#told.revision;
    this.connection = "live";
    this.reason = "";
    this.epoch++;
    this.#watch();
  }

  #disconnected(reason: string): void {
    this.connection = this.epoch ? "disconnected" : "connecting";
    this.reason = reason;
    this.#points.interrupt();
  }

  #seen(header: Header): void {
    const isScheduled = this.#told !== null;
    this.#told = header;
    if (isScheduled) return;
    setTimeout(() => {
      const told = this.#told!;
      this.#told = null;
      this.heardAt = Date.now();
      if (told.revision !== this.revision) this.revision = told.revision;
    }, 50);
  }

  #watch(): void {
    const epoch = this.epoch;
    this.client.open("cluster.watch", {}, (sample) => this.#sampled(sample), (error: Refusal) => {
      if (error.code === "closed") return;
      setTimeout(() => {
        if (epoch === this.epoch && this.isLive) this.#watch();
      }, WATCH_AGAIN_MS);
    });
  }

  #sampled(sample: ClusterSample): void {
    // Members keep their place, whoever leads.
    sample.members.sort((one, other) => inOrder(one.member.name, other.member.name));
    this.sample = sample;
    this.client.learn(sample.members.flatMap((one) => one.member.client_urls));
    this.recent = this.#points.add(sample);
  }
}

export const cluster = new Cluster();
