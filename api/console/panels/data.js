// Topics, consumer groups and processors as tables.

import { byId, element, setText } from "../dom.js";
import { bytes, count, plural, rate } from "../format.js";
import { Table } from "./table.js";

const number = (name, show) => ({ name, class: "number", cell: (row) => ({ text: show(row) }) });

export class Topics {
  constructor() {
    this.before = new Map();
    this.table = new Table(
      byId("topics-body"),
      "Topics, their size and growth",
      [
        { name: "Topic", cell: ({ name }) => ({ text: name }) },
        number("Partitions", (topic) => count(topic.partitions.length)),
        number("Records", (topic) => count(topic.records)),
        number("New", (topic) => (topic.growth > 0 ? `${rate(topic.growth)}/s` : "–")),
        number("Bytes", (topic) => bytes(topic.bytes)),
      ],
      "No topics yet. A producer's first record makes one.",
    );
    byId("internal").addEventListener("change", () => this.show());
  }

  take(topics) {
    const now_ms = Date.now();
    this.topics = topics.map((topic) => {
      const sum = (of) => topic.partitions.reduce((total, partition) => total + of(partition), 0);
      const end = sum((partition) => partition.end_offset);
      const known = this.before.get(topic.topic_id);
      const seconds = known ? (now_ms - known.at_ms) / 1000 : 0;
      const growth = seconds > 0 ? (end - known.end) / seconds : 0;
      this.before.set(topic.topic_id, { end, at_ms: now_ms });
      const records = end - sum((partition) => partition.start_offset);
      return { ...topic, records, growth, bytes: sum((partition) => partition.bytes) };
    });
    this.show();
  }

  show() {
    const all = byId("internal").checked;
    const shown = (this.topics ?? []).filter((topic) => all || !topic.internal);
    this.table.show(shown, ({ name }) => name);
  }
}

export class Groups {
  constructor() {
    this.table = new Table(
      byId("groups-body"),
      "Consumer groups and how far they are behind",
      [
        {
          name: "Group",
          make: () => twoLines(),
          cell: (group, cell) => {
            const [name, topics] = cell.firstChild.children;
            setText(name, group.group);
            setText(topics, [...new Set(group.partitions.map(({ topic }) => topic))].join(", "));
          },
        },
        { name: "State", cell: ({ state }) => ({ text: state.toLowerCase() }) },
        number("Members", (group) => count(group.members)),
        {
          name: "Lag",
          class: "number",
          cell: ({ lag }) => ({ text: count(lag), title: `${plural(lag, "record")} not read yet` }),
        },
      ],
      "No consumer groups yet. One appears with a consumer's first commit.",
    );
  }

  take(groups) {
    this.table.show(groups, ({ group }) => group);
  }
}

const TONES = {
  running: "good",
  waiting: "wait",
  restoring: "wait",
  stopped: "wait",
  retrying: "bad",
  failed: "bad",
};

export class Processors {
  constructor() {
    this.table = new Table(
      byId("analytics-body"),
      "Processors: windows, indicators, counts, files, models",
      [
        {
          name: "Processor",
          make: () => twoLines(),
          cell: (processor, cell) => {
            const [name, detail] = cell.firstChild.children;
            setText(name, processor.name);
            const to = processor.outputs.length > 0 ? ` to ${processor.outputs.join(", ")}` : "";
            const more = processor.last_error ?? processor.detail;
            setText(detail, `${processor.kind}, ${processor.input}${to}${more ? `: ${more}` : ""}`);
          },
        },
        {
          name: "State",
          cell: ({ state }) => ({ text: state, tone: `pill ${TONES[state] ?? ""}` }),
        },
        number("Read", (processor) => count(processor.records)),
        number("Written", (processor) => count(processor.emitted)),
        number("Skipped", (processor) => count(processor.skipped)),
        number("Late", (processor) => count(processor.late)),
        number("Lag", (processor) => count(processor.lag)),
      ],
      "No processors. They are described in pipeline.toml.",
    );
  }

  take(processors) {
    this.table.show(processors, ({ name }) => name);
  }
}

function twoLines() {
  return element(
    "div",
    {},
    element("span", { class: "name" }),
    element("span", { class: "detail" }),
  );
}
