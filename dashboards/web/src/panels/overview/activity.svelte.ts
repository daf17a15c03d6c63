/** Changes of keys and of the domains' records, told in words; few of them if there are many. */

import { fromBase64, shown, sizeOf } from "../../lib/bytes";
import type { Stream } from "../../lib/client";
import type { Event } from "../../lib/protocol";
import { below, unpack } from "../../lib/systemkey";
import { count, plural } from "../../lib/words";
import { cluster } from "../../state/cluster.svelte";
import { place } from "../../state/place.svelte";

const KEPT = 200;
const AHEAD = 16;
const PACE_MS = 250;
/** Revisions behind from which on what was missed is skipped. */
const SKIP = 300;
const AGAIN_MS = 1_000;
const NAME_MAX = 160;
const DELETE = 1;

export interface Change {
  id: number;
  at: number;
  revision: number;
  sign: string;
  tone: "ok" | "warn" | "bad" | "accent" | "dim";
  noun: string;
  name: string;
  verb: string;
}

interface Words {
  noun: string;
  put?: string;
  changed?: string;
  gone?: string;
}

const TELLING: Record<string, Words> = {
  "locks/holder": { noun: "Lock", put: "was granted", gone: "was let go" },
  "locks/waiter": { noun: "Lock", put: "has one more in its queue" },
  "elections/holder": {
    noun: "Election",
    put: "has a new leader",
    changed: "has a new proclamation",
    gone: "lost its leader",
  },
  "elections/waiter": { noun: "Election", put: "has one more candidate" },
  "services/instance": { noun: "Instance", put: "came", changed: "changed", gone: "went" },
  "topics/topic": { noun: "Topic", put: "was created", gone: "was deleted" },
  "sessions/session": { noun: "Session", put: "was opened", gone: "ended" },
};

class Activity {
  changes = $state.raw<Change[]>([]);
  #id = 0;
  #leader = "";
  /** The last revision that was followed; 0 before the first. */
  #at = 0;

  /** Follow until told to stop: since the first greeting, or from where it was stopped last. */
  follow(): () => void {
    this.#at ||= cluster.opened;
    if (cluster.revision - this.#at > SKIP) this.#skip(this.#at);
    const stops = [
      this.#tail(0, below()),
      ...["locks", "elections", "services"].map((domain) =>
        this.#tail(1, below(place.namespace, domain)),
      ),
      this.#tail(1, below(place.namespace, "topics", "topic")),
      this.#tail(1, below("", "sessions")),
      $effect.root(() => {
        $effect(() => this.#elected());
      }),
    ];
    return () => {
      for (const stop of stops) stop();
    };
  }

  #elected(): void {
    const { sample } = cluster;
    if (!sample || sample.leader === this.#leader) return;
    const isFirst = !this.#leader;
    this.#leader = sample.leader;
    if (isFirst) return;
    const has = cluster.hasLeader;
    this.#note({
      revision: 0,
      sign: has ? "◆" : "▲",
      tone: has ? "accent" : "bad",
      noun: "Cluster",
      name: has ? cluster.memberName(sample.leader) : "",
      verb: has ? `leads in term ${sample.term}` : "has no leader",
    });
  }

  #skip(from: number): void {
    this.#note({
      ...{ revision: 0, sign: "…", tone: "dim", noun: "", name: "" },
      verb: `about ${count(cluster.revision - from)} revisions not shown: too many to follow`,
    });
    this.#at = cluster.revision;
  }

  #note(...made: Omit<Change, "id" | "at">[]): void {
    const at = Date.now();
    const fresh = made.map((one) => ({ ...one, id: ++this.#id, at })).reverse();
    this.changes = [...fresh, ...this.changes].slice(0, KEPT);
  }

  #tail(space: 0 | 1, range: { key: string; range_end: string }): () => void {
    let stream: Stream | undefined;
    let timer = 0;
    let at = this.#at;
    let owed = 0;
    let isOver = false;
    const begin = (): void => {
      owed = 0;
      stream = cluster.client.open(
        "watch.create",
        { ...range, space, credit: AHEAD, start_revision: at + 1 },
        (item) => {
          if (item.tag === "progress") at = item.revision;
          if (item.tag !== "events") return;
          at = item.revision;
          this.#at = Math.max(this.#at, at);
          owed += item.events.length;
          const told = item.events.flatMap((event) => (space ? record(event) : key(event)));
          if (told.length) this.#note(...told);
          timer ||= window.setTimeout(pace, PACE_MS);
        },
        (error) => {
          if (error.code !== "closed" && error.code !== "permission_denied" && !isOver) {
            if (error.code === "compacted") at = cluster.revision;
            timer = window.setTimeout(begin, AGAIN_MS);
          }
        },
      );
    };
    const pace = (): void => {
      timer = 0;
      if (owed >= AHEAD && cluster.revision - at > SKIP) {
        stream?.cancel();
        this.#skip(at);
        at = this.#at;
        begin();
      } else if (owed) {
        stream?.credit(owed);
        owed = 0;
      }
    };
    begin();
    return () => {
      isOver = true;
      clearTimeout(timer);
      stream?.cancel();
    };
  }
}

/** One for the whole page, so that it is all there when the reader comes back to it. */
export const activity = new Activity();

function key({ type, kv }: Event): Omit<Change, "id" | "at">[] {
  const isGone = type === DELETE;
  const length = plural(sizeOf(kv.value), "byte");
  return [
    {
      revision: kv.mod_revision,
      sign: isGone ? "✕" : "●",
      tone: isGone ? "warn" : "dim",
      noun: "Key",
      name: shown(fromBase64(kv.key)).slice(0, NAME_MAX),
      verb: isGone ? "was deleted" : kv.version === 1 ? `created, ${length}` : length,
    },
  ];
}

function record({ type, kv }: Event): Omit<Change, "id" | "at">[] {
  const [, domain, kind, ...name] = unpack(fromBase64(kv.key));
  const words = TELLING[`${String(domain)}/${String(kind)}`];
  const isGone = type === DELETE;
  const verb =
    words && (isGone ? words.gone : kv.version === 1 ? words.put : words.changed);
  if (!words || !verb) return [];
  const id = name[0];
  const named =
    typeof id === "bigint"
      ? id.toString(16).padStart(16, "0")
      : domain === "services"
        ? name.join("/")
        : String(id ?? "");
  return [
    {
      revision: kv.mod_revision,
      sign: isGone ? "✕" : "●",
      tone: isGone ? "warn" : "ok",
      noun: words.noun,
      name: named.slice(0, NAME_MAX),
      verb,
    },
  ];
}
