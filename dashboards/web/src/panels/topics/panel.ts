import type { Panel } from "../../state/panels";

export default {
  name: "topics",
  title: "Topics",
  order: 50,
  letter: "t",
  hasPast: true,
  needs: "topic:subscribe",
  load: () => import("./Page.svelte"),
} satisfies Panel;
