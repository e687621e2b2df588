import { render } from "preact";
import { App } from "./app";
import { start } from "./start";
import "./styles/base.css";
import "./styles/layout.css";
import "./styles/map.css";
import "./styles/panels.css";
import "./styles/charts.css";

render(<App />, document.getElementById("page") as HTMLElement);
void start();
