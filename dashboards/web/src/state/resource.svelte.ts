/**
 * Something that a page reads, and reads again when it changes.
 *
 * In the present a watch with room for one event tells of a change; it is given up for the next
 * reading and a new one opened before it, so that a flood of changes costs a reading now and then
 * and no more. A past revision is read once.
 */

import { untrack } from "svelte";

import { Refusal, type Stream } from "../lib/client";
import type { Bytes } from "../lib/protocol";
import { cluster } from "./cluster.svelte";
import { place } from "./place.svelte";

const PAUSE_MS = 120;
/** Readings that take long come less often: so many times their own duration apart. */
const REST = 4;
const AGAIN_MS = 1_500;

/** Keys whose changes matter; `space` 1 is that of the domains' records. */
export interface Scope {
  key: Bytes;
  range_end: Bytes;
  space: 0 | 1;
}

export interface Options<T> {
  /** What is read depends on this besides namespace and revision; read inside an effect. */
  key?: () => unknown;
  /** Read it; `revision` is 0 for the present. */
  ask: (revision: number) => Promise<T>;
  /** What must change for it to be read again. */
  scopes?: () => Scope[];
  /** Read it again so often in any case. */
  everyMs?: number;
  /** Whether there is only the present of it: then it is read even while the past is shown. */
  isLiveOnly?: boolean;
}

export class Resource<T> {
  value = $state.raw<T | undefined>(undefined);
  error = $state.raw<Error | null>(null);
  /** Whether an answer for what is wanted now has come. */
  isFresh = $state(false);
  /** Read it again now. */
  again: () => void = () => undefined;
}

/** Make a resource; to be called while a component is set up. */
export function resource<T>(options: Options<T>): Resource<T> {
  const made = new Resource<T>();
  let seen = "";
  $effect(() => {
    const rev = options.isLiveOnly ? 0 : place.rev;
    const key = JSON.stringify([options.key?.() ?? null, place.namespace, rev]);
    const isLive = cluster.connection === "live";
    void cluster.epoch;
    return untrack(() => {
      if (key !== seen) {
        seen = key;
        made.value = undefined;
        made.error = null;
      }
      made.isFresh = false;
      return isLive ? follow(made, options, rev) : undefined;
    });
  });
  return made;
}

function follow<T>(made: Resource<T>, options: Options<T>, rev: number): () => void {
  let isOver = false;
  let isAsking = false;
  let isDue = false;
  let timer = 0;
  let restMs = PAUSE_MS;
  let streams: Stream[] = [];

  function soon(): void {
    if (isAsking) isDue = true;
    else if (!timer && !document.hidden) timer = window.setTimeout(() => void ask(), restMs);
    else if (document.hidden) isDue = true;
  }

  function watch(): void {
    for (const stream of streams) stream.cancel();
    streams = (rev ? [] : (options.scopes?.() ?? [])).map((scope) =>
      cluster.client.open(
        "watch.create",
        { ...scope, credit: 1 },
        (item) => item.tag !== "progress" && soon(),
        (error) => error.code !== "closed" && soon(),
      ),
    );
  }

  async function ask(): Promise<void> {
    clearTimeout(timer);
    timer = 0;
    isAsking = true;
    isDue = false;
    const began = performance.now();
    watch();
    let pauseMs = options.everyMs ?? 0;
    try {
      const value = await options.ask(rev);
      if (isOver) return;
      made.value = value;
      made.error = null;
      made.isFresh = true;
    } catch (error) {
      if (isOver) return;
      const refusal = error as Error;
      if (!(refusal instanceof Refusal && refusal.code === "closed")) made.error = refusal;
      if (!(refusal instanceof Refusal) || isPassing(refusal)) pauseMs = AGAIN_MS;
    }
    isAsking = false;
    restMs = Math.max(PAUSE_MS, REST * (performance.now() - began));
    if (isDue) soon();
    else if (pauseMs && !rev) timer = window.setTimeout(() => void ask(), pauseMs);
  }

  function shown(): void {
    if (!document.hidden && isDue && !isAsking) void ask();
  }

  document.addEventListener("visibilitychange", shown);
  made.again = () => void (isAsking ? (isDue = true) : ask());
  void ask();
  return () => {
    isOver = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", shown);
    for (const stream of streams) stream.cancel();
  };
}

function isPassing(refusal: Refusal): boolean {
  return ["unavailable", "no_leader", "stopping", "exhausted", "outcome_unknown"].includes(
    refusal.code,
  );
}
