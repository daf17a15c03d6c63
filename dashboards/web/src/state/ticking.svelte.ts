/** The time of day, once a second, for what counts up or down. */

class Ticking {
  now = $state(Date.now());

  constructor() {
    setInterval(() => {
      if (!document.hidden) this.now = Date.now();
    }, 1_000);
  }
}

export const ticking = new Ticking();
