/** Keys: `g` and a letter go to a page, `/` to the filter, `?` shows them all, ⌘K the palette. */

import { panels } from "../state/panels";
import { place } from "../state/place.svelte";

const KEY = "single-keys";
const PAIR_MS = 1_200;
const TYPED_IN = "input:not([type=range], [type=radio], [type=checkbox]), textarea, select";

class Keyboard {
  open = $state<"" | "palette" | "sheet">("");
  /** Keys without a modifier; some screen readers and speech input want them off. */
  hasSingleKeys = $state(localStorage.getItem(KEY) !== "off");

  #leadAt = 0;

  setSingleKeys(isOn: boolean): void {
    this.hasSingleKeys = isOn;
    localStorage.setItem(KEY, isOn ? "on" : "off");
  }

  press = (event: KeyboardEvent): void => {
    if ((event.metaKey || event.ctrlKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      this.open = this.open === "palette" ? "" : "palette";
      return;
    }
    const isPlain = !event.metaKey && !event.ctrlKey && !event.altKey;
    if (!this.hasSingleKeys || !isPlain || isTyping(event.target)) return;
    // Not `open`: a dialog is told of its end a moment after it, and a key may come in between.
    if (document.querySelector("dialog[open]")) return;
    if (Date.now() - this.#leadAt < PAIR_MS) {
      this.#leadAt = 0;
      const panel = panels.find((one) => one.letter === event.key);
      if (panel) {
        event.preventDefault();
        place.go(panel.name);
      }
    } else if (event.key === "g") this.#leadAt = Date.now();
    else if (event.key === "?") this.open = "sheet";
    else if (event.key === "/") focus(event, "[data-filter]");
    else if (event.key === "[" || event.key === "]") {
      dispatchEvent(new CustomEvent("step", { detail: event.key === "[" ? -1 : 1 }));
    }
  };
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && Boolean(target.closest(TYPED_IN));
}

function focus(event: Event, selector: string): void {
  const found = document.querySelector<HTMLElement>(selector);
  if (!found) return;
  event.preventDefault();
  found.focus();
}

export const keyboard = new Keyboard();
