/** The instances of one service: a stream of changes in the present, one reading of the past. */

import { untrack } from "svelte";

import { Refusal, type Stream } from "../../lib/client";
import type { Instance } from "../../lib/protocol";
import { cluster } from "../../state/cluster.svelte";
import { place } from "../../state/place.svelte";
import { Resource } from "../../state/resource.svelte";

const AGAIN_MS = 1_000;
/** Changes that come within this are shown together. */
const FRAME_MS = 100;

export function instancesOf(service: string): Resource<Instance[]> {
  const made = new Resource<Instance[]>();
  $effect(() => {
    const { namespace, rev } = place;
    void cluster.epoch;
    if (!cluster.isLive) return;
    return untrack(() => (rev ? read(made, namespace, service, rev) : follow(made, namespace, service)));
  });
  return made;
}

function read(
  made: Resource<Instance[]>,
  namespace: string,
  service: string,
  revision: number,
): () => void {
  let isOver = false;
  made.value = undefined;
  made.again = () => {
    made.error = null;
    cluster.client
      .call("services.discover", { namespace, service, revision, statuses: ["*"] })
      .then((answer) => {
        if (isOver) return;
        made.value = answer.instances;
        made.isFresh = true;
      })
      .catch((error: Error) => {
        if (!isOver) made.error = error;
      });
  };
  made.again();
  return () => (isOver = true);
}

function follow(made: Resource<Instance[]>, namespace: string, service: string): () => void {
  let isOver = false;
  let timer = 0;
  let known = new Map<string, Instance>();
  let stream: Stream;

  function show(): void {
    timer = 0;
    made.value = [...known.values()];
    made.isFresh = true;
  }

  function begin(): void {
    made.error = null;
    stream = cluster.client.open(
      "services.watch",
      { namespace, service },
      (item) => {
        if (item.tag === "snapshot") {
          known = new Map(item.instances.map((one) => [one.instance, one]));
          show();
          return;
        }
        for (const one of item.changed) known.set(one.instance, one);
        for (const one of item.removed) known.delete(one.instance);
        timer ||= window.setTimeout(show, FRAME_MS);
      },
      (error: Refusal) => {
        if (isOver || error.code === "closed") return;
        made.error = error;
        if (error.code !== "permission_denied") timer = window.setTimeout(begin, AGAIN_MS);
      },
    );
  }

  made.again = begin;
  begin();
  return () => {
    isOver = true;
    clearTimeout(timer);
    stream.cancel();
  };
}
