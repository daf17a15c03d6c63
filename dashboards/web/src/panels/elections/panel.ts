import type { Panel } from "../../state/panels";

export default {
  name: "elections",
  title: "Elections",
  order: 40,
  letter: "e",
  hasPast: true,
  needs: "election:read",
  load: () => import("./Page.svelte"),
} satisfies Panel;
