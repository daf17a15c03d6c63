/** Who the reader is, and what that allows. */

import { compareBytes, fromBase64 } from "../lib/bytes";
import { Refusal } from "../lib/client";
import type { Bytes, DomainPermission, KeyPermission } from "../lib/protocol";
import { cluster } from "./cluster.svelte";

/** A login is renewed after half of its life at the earliest, and after three quarters at the latest. */
const RENEWAL = { from: 0.5, upTo: 0.75 };
const RENEW_AGAIN_MS = 30_000;
const SHORTEST_MS = 1_000;
const LONGEST_MS = 2 ** 31 - 1;

class Session {
  /** Whether the cluster asks who somebody is at all. */
  isOn = $state(false);
  /** Whether the member was told to serve whoever reaches its addresses. */
  isOpen = $state(false);
  user = $state("");
  roles = $state.raw<string[]>([]);
  expiresMs = $state(0);
  /** What the roles allow besides keys. */
  rights = $state.raw<DomainPermission[]>([]);
  /** What the roles allow with keys. */
  keyRights = $state.raw<KeyPermission[]>([]);
  isKnown = $state(false);
  /** When the login is renewed, in milliseconds of this machine's time; 0 for never. */
  #dueMs = 0;
  #timer = 0;

  constructor() {
    // Timers rest with the machine, and are late on a tab that nobody looks at.
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.#dueMs && Date.now() >= this.#dueMs) void this.#renew();
    });
  }

  get isRoot(): boolean {
    return this.roles.includes("root");
  }

  /** Ask the member whom it takes us for. */
  async look(): Promise<void> {
    try {
      const told = await cluster.client.call("auth.whoami", {});
      this.user = told.user;
      this.roles = told.roles;
      this.isOn = told.enabled;
      this.isOpen = told.insecure_open;
      this.expiresMs = told.expires_ms && Date.now() + told.expires_ms - told.clock_ms;
      this.#renewIn((this.expiresMs && this.expiresMs - Date.now()) * someOf(RENEWAL));
      this.rights = told.domains;
      this.keyRights = told.keys;
      this.isKnown = true;
    } catch {
      // Without an answer what was known stays; the cluster judges every request by itself.
    }
  }

  /**
   * Prove who we are: with a cookie that scripts do not see, or, where the member that gave us this
   * page is gone, over the connection to another one.
   */
  async login(user: string, password: string): Promise<void> {
    let answer: Response;
    try {
      answer = await fetch("/v1/auth/login", {
        method: "POST",
        headers: { "content-type": "application/json", "x-coordinator-csrf": "1" },
        body: JSON.stringify({ user, password, cookie: true }),
      });
    } catch {
      cluster.client.connect({ user, password });
      return;
    }
    if (!answer.ok) throw await refusalOf(answer);
    cluster.client.connect();
  }

  #renewIn(ms: number): void {
    clearTimeout(this.#timer);
    this.#dueMs = 0;
    if (ms <= 0) return;
    const waitMs = Math.min(Math.max(ms, SHORTEST_MS), LONGEST_MS);
    this.#dueMs = Date.now() + waitMs;
    this.#timer = window.setTimeout(() => void this.#renew(), waitMs);
  }

  /**
   * Have the cookie live on. What stands was made with the old one, so the connection is made anew,
   * and whoami tells when the next is due. If it is refused, the password is asked for at the end.
   */
  async #renew(): Promise<void> {
    this.#renewIn(RENEW_AGAIN_MS);
    try {
      const answer = await fetch("/v1/auth/renew", {
        method: "POST",
        headers: { "x-coordinator-csrf": "1" },
      });
      if (answer.ok) cluster.client.again();
      else if (answer.status < 500) this.#renewIn(0);
    } catch {
      // The member that gave us this page is gone; it may be back in time.
    }
  }

  async logout(): Promise<void> {
    await fetch("/v1/auth/logout", { method: "POST", headers: { "x-coordinator-csrf": "1" } });
    location.reload();
  }

  /** Tell whether a key may be written; without one, whether any may. */
  mayWrite(key?: Bytes): boolean {
    if (!this.isKnown || !this.isOn || this.isRoot) return true;
    return this.keyRights.some(
      (right) => allows(right, WRITE) && (key === undefined || holds(right, fromBase64(key))),
    );
  }

  /** The keys that may be read, where those are not all; null where they are. */
  get readable(): KeyPermission[] | null {
    if (!this.isKnown || !this.isOn || this.isRoot) return null;
    const found = this.keyRights.filter((right) => allows(right, READ));
    return found.some(isForAll) ? null : found;
  }

  /**
   * Tell whether an action, such as `lock:force-release`, is allowed to something. What it decides
   * is only what is offered: the cluster judges every request by itself.
   */
  may(action: string, name = "", namespace = ""): boolean {
    if (!this.isKnown || !this.isOn || this.isRoot) return true;
    const kind = `${action.split(":")[0]}:*`;
    return this.rights.some(
      (right) =>
        (right.action === action || right.action === kind) &&
        (!namespace || covers(right.namespace ?? "*", namespace)) &&
        (!name || covers(right.name ?? "*", name)),
    );
  }
}

const READ = 0;
const WRITE = 1;
const BEHIND_ALL = "AA==";

function allows(right: KeyPermission, access: number): boolean {
  return right.access === access || (right.access !== READ && right.access !== WRITE);
}

function holds(right: KeyPermission, key: Uint8Array): boolean {
  const begin = compareBytes(fromBase64(right.key), key);
  if (!right.range_end) return begin === 0;
  const isBefore = right.range_end === BEHIND_ALL || compareBytes(key, fromBase64(right.range_end)) < 0;
  return begin <= 0 && isBefore;
}

/** Whether a right holds for whatever key there may be: one has a byte at least. */
function isForAll(right: KeyPermission): boolean {
  return right.range_end === BEHIND_ALL && (!right.key || right.key === BEHIND_ALL);
}

function someOf({ from, upTo }: { from: number; upTo: number }): number {
  return from + (upTo - from) * Math.random();
}

function covers(pattern: string, name: string): boolean {
  return pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : pattern === name;
}

/** What an HTTP answer was refused with. */
export async function refusalOf(answer: Response): Promise<Refusal> {
  try {
    const { error } = (await answer.json()) as { error: { code: string; message: string } };
    return new Refusal(error.code, error.message);
  } catch {
    return new Refusal("error", `the member answered with status ${answer.status}`);
  }
}

export const session = new Session();
