import type { Panel } from "../../state/panels";

export default {
  name: "locks",
  title: "Locks",
  order: 30,
  letter: "l",
  hasPast: true,
  needs: "lock:read",
  load: () => import("./Page.svelte"),
} satisfies Panel;
