import { mount } from "svelte";

import "./style/fonts.css";
import "./style/tokens.css";
import "./style/base.css";
import App from "./shell/App.svelte";
import { applyTheme } from "./state/theme.svelte";

applyTheme();
mount(App, { target: document.getElementById("app")! });
