// The state of the server in the header, and what is wrong now in plain words.

import { byId, element, setAttribute, setText } from "../dom.js";
import { age, duration, plural } from "../format.js";

export class Health {
  constructor() {
    this.shown = null;
    this.said = null;
  }

  /** An answer of the server. */
  alive(overview) {
    setText(byId("version"), overview.version);
    byId("demo-notice").hidden = !overview.demo;
    const problems = overview.problems ?? [];
    const up = `up ${duration(overview.uptime_s)}`;
    this.state(
      problems.length === 0 ? "good" : "bad",
      problems.length === 0 ? `running, ${up}` : `${plural(problems.length, "problem")}, ${up}`,
    );
    this.list(problems);
  }

  /** No answer: what the page shows is old. */
  silent(problem) {
    const refused = problem.status === 401 || problem.status === 403;
    this.state("bad", refused ? "not allowed" : "not answering");
    this.list([
      refused
        ? {
            id: "refused",
            what: "The server does not let this page read how it is",
            evidence: problem.message,
            fix: "Open the page again and sign in",
          }
        : {
            id: "unreachable",
            what: "The server does not answer",
            evidence: problem.message,
            fix:
              "See whether it still runs. This page goes on by itself when it answers again; " +
              "until then the figures below are old",
          },
    ]);
  }

  state(tone, text) {
    setAttribute(byId("server-state"), "data-tone", tone);
    setText(byId("server-state-text"), text);
  }

  list(problems) {
    const now = JSON.stringify(problems);
    if (now === this.shown) return;
    this.shown = now;
    byId("problems").replaceChildren(problems.length === 0 ? calm() : listed(problems));
    // Read out when a problem comes or goes, not when its evidence counts on.
    const said =
      problems.length === 0
        ? "Nothing is wrong."
        : `${plural(problems.length, "problem")}: ${problems.map(({ what }) => what).join("; ")}.`;
    if (said !== this.said) setText(byId("health-said"), said);
    this.said = said;
  }
}

function calm() {
  return element(
    "p",
    { class: "calm" },
    element("span", { class: "mark", "aria-hidden": "true" }, "✓"),
    "Nothing is wrong. Problems would be told here, each with its evidence and what to do.",
  );
}

function listed(problems) {
  return element(
    "ul",
    { class: "problems" },
    problems.map((problem) =>
      element(
        "li",
        { class: "problem" },
        element(
          "h3",
          {},
          element("span", { class: "mark", "aria-hidden": "true" }, "!"),
          sentence(problem.what),
        ),
        element(
          "dl",
          {},
          row("Evidence", problem.evidence || "none given"),
          row("What to do", sentence(problem.fix)),
          problem.count > 1 ? row("Seen", plural(problem.count, "time")) : null,
          problem.last ? row("Last", age(Date.now() - Date.parse(problem.last))) : null,
        ),
      ),
    ),
  );
}

function row(name, text) {
  return element("div", {}, element("dt", {}, name), element("dd", {}, text));
}

function sentence(text = "") {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
