// The frame around every chart: what it shows in words, a sentence while it is empty, and counters
// (`data-points`, `data-last-update`) by which a browser test sees that it draws and moves.

import { element, setAttribute, setText } from "../dom.js";

export class Figure {
  /** `name` is the test id without "chart-"; `label` what a screen reader calls the drawing. */
  constructor(name, label) {
    this.legend = element("div", { class: "legend" });
    this.plot = element("div", { class: `plot plot-${name}`, role: "img", "aria-label": label });
    this.empty = element("p", { class: "note" }, "Loading.");
    this.summary = element("p", { class: "summary" });
    this.root = element(
      "figure", { class: "chart", "data-chart": name, "data-testid": `chart-${name}`, "data-points": 0 },
      this.legend, this.plot, this.empty, element("figcaption", {}, this.summary),
    );
    this.label = label;
    this.say("Loading.");
  }

  /** Nothing to draw, and why. */
  say(sentence) {
    setText(this.empty, sentence);
    this.empty.hidden = false;
    this.plot.hidden = true;
    this.legend.hidden = true;
    setText(this.summary, "");
    setAttribute(this.root, "data-points", 0);
  }

  /** Shows the drawing; called before it is made, because it takes its size from the page. */
  show() {
    this.empty.hidden = true;
    this.plot.hidden = false;
    this.legend.hidden = false;
  }

  drawn(points, summary) {
    counted(this.root, points);
    setText(this.summary, summary);
    setAttribute(this.plot, "aria-label", `${this.label}. ${summary}`);
  }
}

export function counted(node, points) {
  setAttribute(node, "data-points", points);
  setAttribute(node, "data-last-update", Date.now());
}
