// Sources with what they did and three buttons each; the answer to a button is read out.

import { post } from "../api.js";
import { byId, element, setAttribute, setText } from "../dom.js";
import { age, bytes, count } from "../format.js";
import { Table } from "./table.js";

const TONES = {
  running: "good",
  finished: "good",
  quiet: "wait",
  starting: "wait",
  paused: "wait",
  backing_off: "bad",
  failed: "bad",
};
const STATES = { backing_off: "waiting to try again" };

export class Sources {
  constructor(onCommand) {
    this.onCommand = onCommand;
    const number = (name, field) => ({
      name,
      class: "number",
      cell: (source) => ({ text: count(source[field]) }),
    });
    const trouble = (name, field) => ({
      name,
      class: "number",
      cell: (source) => ({ text: count(source[field]), tone: source[field] > 0 ? "warn" : "" }),
    });
    this.table = new Table(
      byId("sources-body"),
      "Sources, their state and their counts",
      [
        { name: "Source", make: () => named(), cell: renewName },
        {
          name: "State",
          cell: ({ state }) => ({
            text: STATES[state] ?? state,
            tone: `pill ${TONES[state] ?? ""}`,
          }),
        },
        number("Records", "records"),
        { name: "Bytes", class: "number", cell: (source) => ({ text: bytes(source.bytes) }) },
        trouble("Errors", "errors"),
        trouble("Reconnects", "reconnects"),
        {
          name: "Last record",
          class: "number",
          cell: (source) => ({ text: age(source.last_record_age_ms ?? NaN) }),
        },
        {
          name: "Commands",
          class: "commands",
          make: (source) => this.buttons(source),
          cell: renewButtons,
        },
      ],
      "No sources. They are described in pipeline.toml; each fills a topic.",
    );
  }

  take(sources) {
    this.table.show(sources, ({ name }) => name);
  }

  buttons({ name }) {
    const button = (verb, text) =>
      element(
        "button",
        {
          type: "button",
          class: "small",
          "data-verb": verb,
          "aria-label": `${text} ${name}`,
          onclick: ({ currentTarget }) => {
            if (currentTarget.getAttribute("aria-disabled") !== "true") this.command(name, verb);
          },
        },
        text,
      );
    return element(
      "div",
      { class: "buttons" },
      button("pause", "Pause"),
      button("resume", "Resume"),
      button("restart", "Restart"),
    );
  }

  async command(name, verb) {
    const said = byId("command-said");
    try {
      await post(`sources/${encodeURIComponent(name)}/${verb}`);
      setText(said, `${name}: ${verb} was asked for.`);
      setAttribute(said, "data-tone", "");
    } catch (problem) {
      setText(said, `${name}: ${verb} did not work: ${problem.message}`);
      setAttribute(said, "data-tone", "bad");
    }
    this.onCommand();
  }
}

function named() {
  return element(
    "div",
    {},
    element("span", { class: "name" }),
    element("span", { class: "detail" }),
  );
}

function renewName(source, cell) {
  const [name, detail] = cell.firstChild.children;
  setText(name, source.name);
  const kind = `${source.type} to ${source.topic}`;
  setText(detail, source.detail ? `${kind}: ${source.detail}` : kind);
}

/** What cannot be done now is disabled, but keeps its place and its focus. */
function renewButtons({ state }, cell) {
  const can = {
    pause: !["paused", "finished", "failed"].includes(state),
    resume: state === "paused",
    restart: true,
  };
  for (const button of cell.querySelectorAll("button")) {
    setAttribute(button, "aria-disabled", !can[button.dataset.verb]);
  }
}
