import type { Panel } from "../../state/panels";

export default {
  name: "overview",
  title: "Overview",
  order: 10,
  letter: "o",
  hasPast: true,
  load: () => import("./Page.svelte"),
} satisfies Panel;
