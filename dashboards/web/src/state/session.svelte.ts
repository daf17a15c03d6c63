/** Who the reader is, and what that allows. */

import { Refusal } from "../lib/client";
import type { DomainPermission } from "../lib/protocol";
import { cluster } from "./cluster.svelte";

class Session {
  /** Whether the cluster asks who somebody is at all. */
  isOn = $state(false);
  user = $state("");
  roles = $state.raw<string[]>([]);
  expiresMs = $state(0);
  /** What the roles allow besides keys. */
  rights = $state.raw<DomainPermission[]>([]);
  isKnown = $state(false);

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
      this.expiresMs = told.expires_ms;
      this.rights = told.domains;
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

  async logout(): Promise<void> {
    await fetch("/v1/auth/logout", { method: "POST", headers: { "x-coordinator-csrf": "1" } });
    location.reload();
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
