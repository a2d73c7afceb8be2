// The frame around every chart: what it shows in words, a sentence while it is empty, and counters
// (`data-points`, `data-last-update`) by which a browser test sees that it draws and moves.

import { element, setAttribute, setText } from "../dom.js";

export class Figure {
  /** `name` is the test id without "chart-"; `label` what a screen reader calls the drawing. */
  constructor(name, label) {
    this.legend = element("div", { class: "legend" });
    // A slider, because a screen reader gives it the arrow keys: they go from point to point.
    this.plot = element("div", {
      class: `plot plot-${name}`,
      role: "slider",
      tabindex: 0,
      "aria-label": label,
      "aria-roledescription": "chart",
      "aria-valuemin": 1,
      onkeydown: (event) => this.key(event),
    });
    this.empty = element("p", { class: "note" }, "Loading.");
    this.summary = element("p", { class: "summary" });
    this.root = element(
      "figure",
      { class: "chart", "data-chart": name, "data-testid": `chart-${name}`, "data-points": 0 },
      this.legend,
      this.plot,
      this.empty,
      element("figcaption", {}, this.summary),
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

  /** Of how many points the keys have a choice, which one is shown, and what it says. */
  at(index, length, text) {
    Object.assign(this, { index, length });
    setAttribute(this.plot, "aria-valuemax", length);
    setAttribute(this.plot, "aria-valuenow", index + 1);
    setAttribute(this.plot, "aria-valuetext", text);
  }

  /** `onStep(index)` is the chart's own: it moves its cursor there, or away with null. */
  key(event) {
    const steps = {
      ArrowLeft: -1,
      ArrowRight: 1,
      PageUp: -10,
      PageDown: 10,
      Home: -Infinity,
      End: Infinity,
    };
    const step = steps[event.key];
    if (event.key === "Escape") this.onStep?.(null);
    if (step === undefined || !this.length) return;
    event.preventDefault();
    this.onStep?.(Math.min(this.length - 1, Math.max(0, this.index + step)));
  }
}

export function counted(node, points) {
  setAttribute(node, "data-points", points);
  setAttribute(node, "data-last-update", Date.now());
}
