/** Who the reader is, and what that allows. */

import { Refusal } from "../lib/client";
import { cluster } from "./cluster.svelte";

export interface Right {
  action: string;
  namespace: string;
  name: string;
}

interface Told {
  user?: string;
  roles?: string[];
  enabled?: boolean;
  is_root?: boolean;
  expires_ms?: number;
  domains?: Right[];
}

class Session {
  /** Whether the cluster asks who somebody is at all. */
  isOn = $state(false);
  user = $state("");
  roles = $state.raw<string[]>([]);
  expiresMs = $state(0);
  /** What the roles allow besides keys; null if the server does not tell. */
  rights = $state.raw<Right[] | null>(null);
  isRoot = $state(false);
  isKnown = $state(false);

  /** Find out who we are, then connect as such. */
  async begin(): Promise<void> {
    await this.look();
    cluster.client.connect();
  }

  async look(): Promise<void> {
    try {
      const answer = await fetch("/v1/auth/whoami", { headers: this.#proof() });
      if (answer.ok) this.#take((await answer.json()) as Told);
      else if (answer.status === 401) this.isOn = true;
    } catch {
      // The connection's own words tell that nobody answers.
    }
    this.isKnown = true;
  }

  #proof(): Record<string, string> {
    const token = cluster.client.token;
    return token ? { authorization: `Bearer ${token}` } : {};
  }

  #take(told: Told): void {
    this.user = told.user ?? "";
    this.roles = told.roles ?? [];
    this.isOn = told.enabled ?? Boolean(told.user);
    this.isRoot = told.is_root ?? this.roles.includes("root");
    this.expiresMs = told.expires_ms ?? 0;
    this.rights = told.domains ?? null;
  }

  /** Prove who we are, with a cookie that scripts do not see. */
  async login(user: string, password: string): Promise<void> {
    const answer = await fetch("/v1/auth/login", {
      method: "POST",
      headers: { "content-type": "application/json", "x-coordinator-csrf": "1" },
      body: JSON.stringify({ user, password, cookie: true }),
    });
    if (!answer.ok) throw await refusalOf(answer);
    const told = (await answer.json()) as { token?: string };
    // Another host does not get the cookie: after a failover the token in memory goes there.
    cluster.client.token = told.token ?? "";
    await this.look();
    cluster.client.connect();
  }

  async logout(): Promise<void> {
    cluster.client.token = "";
    await fetch("/v1/auth/logout", { method: "POST", headers: { "x-coordinator-csrf": "1" } });
    location.reload();
  }

  /**
   * Tell whether an action, such as `lock:force-release`, is allowed to something. What it decides
   * is only what is offered: the cluster judges every request by itself.
   */
  may(action: string, name = "", namespace = ""): boolean {
    if (!this.isOn || this.isRoot || this.rights === null) return true;
    const kind = `${action.split(":")[0]}:*`;
    return this.rights.some(
      (right) =>
        (right.action === action || right.action === kind) &&
        (!namespace || covers(right.namespace, namespace)) &&
        (!name || covers(right.name, name)),
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
