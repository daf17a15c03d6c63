/** The newest messages of a topic, as many as are worth showing; the rest is counted. */

import { Refusal, type Stream } from "../../lib/client";
import type { TopicMessage } from "../../lib/protocol";
import { cluster } from "../../state/cluster.svelte";

/** Messages that the member may send ahead: with the pace they bound what is taken in. */
const AHEAD = 100;
const PACE_MS = 200;
/** Messages behind from which on the tail goes on at the end. */
const SKIP = 2_000;
const AGAIN_MS = 1_000;
/** Messages from before that a tail begins with. */
const EARLIER = 20;

export class TopicTail {
  messages = $state.raw<TopicMessage[]>([]);
  isPaused = $state(false);
  /** Messages that were not shown: there were too many, or the tail was paused. */
  dropped = $state(0);
  error = $state("");
  limit = $state(100);

  #waiting: TopicMessage[] = [];
  #owed = 0;
  #sequence = 0;

  constructor(
    private readonly namespace: string,
    private readonly topic: string,
  ) {}

  /** Follow until told to stop; `last` tells the topic's newest sequence. */
  follow(last: () => number): () => void {
    let stream: Stream | undefined;
    let again = 0;
    let isOver = false;
    const begin = (start: string): void => {
      this.#owed = 0;
      stream = cluster.client.open(
        "topics.subscribe",
        {
          ...{ namespace: this.namespace, pattern: this.topic, credit: AHEAD, name: "dashboard" },
          ...{ start, position: this.#sequence + 1 },
        },
        (item) => {
          this.error = "";
          if (item.tag === "messages") this.#take(item.messages);
          else if (item.tag === "truncated") this.#sequence = item.first_sequence - 1;
        },
        (error: Refusal) => {
          if (isOver || error.code === "closed") return;
          this.error = error.message;
          if (error.code !== "permission_denied") {
            again = window.setTimeout(() => begin("latest"), AGAIN_MS);
          }
        },
      );
    };
    const pace = (): void => {
      this.#show();
      if (!this.#owed) return;
      const behind = last() - this.#sequence;
      if (behind > SKIP) {
        stream?.cancel();
        this.dropped += behind;
        begin("latest");
      } else {
        stream?.credit(this.#owed);
        this.#owed = 0;
      }
    };
    // The newest that are kept come first, so that there is something to see.
    this.#sequence ||= Math.max(0, last() - EARLIER);
    begin(last() ? "sequence" : "latest");
    const timer = window.setInterval(pace, PACE_MS);
    return () => {
      isOver = true;
      clearInterval(timer);
      clearTimeout(again);
      stream?.cancel();
    };
  }

  #take(messages: TopicMessage[]): void {
    this.#owed += messages.length;
    this.#sequence = messages.at(-1)?.sequence ?? this.#sequence;
    if (this.isPaused) this.dropped += messages.length;
    else this.#waiting.push(...messages);
  }

  #show(): void {
    if (!this.#waiting.length) return;
    const fresh = this.#waiting.reverse();
    this.#waiting = [];
    this.messages = [...fresh, ...this.messages].slice(0, this.limit);
  }

  clear(): void {
    this.messages = [];
    this.dropped = 0;
  }
}
