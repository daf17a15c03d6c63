import type { Panel } from "../../state/panels";

export default {
  name: "keys",
  title: "Keys",
  order: 60,
  letter: "k",
  hasPast: true,
  load: () => import("./Page.svelte"),
} satisfies Panel;
