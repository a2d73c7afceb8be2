// Flights a day by airline, as stacked bars. The counts topic holds each new value of a
// (day, airline); the last one counts, so a value that comes twice changes nothing.

import { newest } from "../api.js";
import { element, setText } from "../dom.js";
import { follow } from "../follow.js";
import { civilDay, count, plural } from "../format.js";
import { draw } from "../frame.js";
import { colour, faded } from "../theme.js";
import { Figure } from "./figure.js";
import { axis, paths, place, plot } from "./plot.js";

const DAYS_MAX = 31;
const DAY_MS = 86_400_000;
const HEIGHT = 330;
const HEIGHT_NARROW = 260;
/** More colours than this cannot be told apart; the smaller airlines are shown as one. */
const NAMED_MAX = 6;
const NO_COUNTS = "No counts yet: the first appears when flights have been read.";

export class Flights {
  constructor(box) {
    this.figure = new Figure("flights", "Flights a day, stacked by airline");
    box.append(this.figure.root);
    this.days = new Map();
    this.paint = this.paint.bind(this);
  }

  async start(topic) {
    this.end?.();
    this.days.clear();
    let last;
    try {
      last = (await newest(topic, 1)).at(-1);
    } catch (problem) {
      this.figure.say(`The counts cannot be read: ${problem.message}. It is tried again.`);
      setTimeout(() => this.start(topic), 5_000);
      return;
    }
    const from = last ? last.timestamp_ms - DAYS_MAX * DAY_MS : "earliest";
    this.end = follow(topic, {
      from,
      onRecords: (batch) => this.take(batch),
      onGap: () => this.start(topic),
    });
    if (!last) this.figure.say(NO_COUNTS);
  }

  take(batch) {
    for (const { value } of batch) {
      if (!value?.day || !Number.isFinite(value.count)) continue;
      if (!this.days.has(value.day)) this.days.set(value.day, new Map());
      this.days.get(value.day).set(value.key, value.count);
    }
    if (this.days.size > DAYS_MAX) {
      const kept = [...this.days.keys()].sort().slice(-DAYS_MAX);
      for (const day of this.days.keys()) if (day < kept[0]) this.days.delete(day);
    }
    draw(this.paint);
  }

  paint() {
    if (this.days.size === 0) return this.figure.say(NO_COUNTS);
    this.table = tabulate(this.days);
    this.figure.show();
    const names = this.table.airlines.join();
    if (!this.plot || names !== this.names) this.build(names);
    this.plot.setData(stacked(this.table));
    this.showDay();
    this.describe();
  }

  /** Which airlines are named may change while the first days come in: then it is made anew. */
  build(names) {
    this.names = names;
    this.plot?.destroy();
    const { airlines } = this.table;
    const bars = paths.bars({ size: [0.72, 56], gap: 0 });
    const series = airlines.map((_, i) => ({
      paths: bars,
      points: { show: false },
      width: 0,
      fill: () => fill(airlines, i),
      stroke: () => fill(airlines, i),
    }));
    const height = this.figure.plot.clientWidth < 420 ? HEIGHT_NARROW : HEIGHT;
    this.plot = plot(
      this.figure.plot,
      height,
      {
        padding: [8, 4, 0, 0],
        scales: {
          x: { time: false, range: (_, min, max) => [min - 0.6, max + 0.6] },
          y: { range: (_, __, max) => [0, Math.max(1, max) * 1.06] },
        },
        cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
        series: [{}, ...series.reverse()],
        axes: [
          axis({
            grid: { show: false },
            size: 24,
            space: 48,
            incrs: [1, 2, 5, 7, 14],
            values: (_, splits) =>
              splits.map((at) => {
                const day = Number.isInteger(at) ? this.table.days[at] : undefined;
                return day ? civilDay(day, false) : "";
              }),
          }),
          axis({ size: 48, values: (_, splits) => splits.map(count) }),
        ],
        hooks: {
          setCursor: [
            (made) => {
              this.hovered = made.cursor.idx;
              draw(this.showDayLater);
            },
          ],
        },
      },
      stacked(this.table),
    );
    this.showDayLater ??= () => this.showDay();
    this.figure.onStep = (index) => this.plot.setCursor(place(this.plot, index));
    this.makeLegend(airlines);
  }

  makeLegend(airlines) {
    this.day = element("span", { class: "strong" });
    this.cells = airlines.map(() => element("b"));
    const keys = airlines.map((name, i) => {
      const swatch = element("i", { class: "swatch", "data-series": seriesOf(airlines, i) });
      return element("span", { class: "key" }, swatch, `${name} `, this.cells[i]);
    });
    this.figure.legend.replaceChildren(element("div", { class: "values" }, this.day, keys));
  }

  showDay() {
    const { days, airlines, counts, totals } = this.table;
    const at = days[this.hovered] === undefined ? days.length - 1 : this.hovered;
    setText(this.day, `${civilDay(days[at])}: ${plural(totals[at], "flight")}`);
    airlines.forEach((_, i) => setText(this.cells[i], count(counts[i][at])));
    const said = airlines.map((name, i) => `${name} ${count(counts[i][at])}`).join(", ");
    this.figure.at(at, days.length, `${this.day.textContent}, ${said}`);
  }

  describe() {
    const { days, totals, all } = this.table;
    const sum = totals.reduce((a, b) => a + b);
    const [most, flights] = all[0];
    const span =
      days.length === 1
        ? `On ${civilDay(days[0])}`
        : `From ${civilDay(days[0], false)} to ${civilDay(days.at(-1))}`;
    this.figure.drawn(
      days.length * all.length,
      `${span}: ${plural(sum, "flight")} of ` +
        `${plural(all.length, "airline")}, most by ${most} (${count(flights)}).`,
    );
  }
}

/** Days in order, the busiest airlines by name and the others as one, and the counts of each. */
function tabulate(days) {
  const order = [...days.keys()].sort();
  const sums = new Map();
  for (const day of order) {
    for (const [key, flights] of days.get(day)) sums.set(key, (sums.get(key) ?? 0) + flights);
  }
  const all = [...sums].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  const named = all
    .slice(0, all.length === NAMED_MAX + 1 ? NAMED_MAX + 1 : NAMED_MAX)
    .map(([key]) => key)
    .sort();
  const airlines = all.length > named.length ? [...named, "others"] : named;
  const totals = order.map((day) => [...days.get(day).values()].reduce((a, b) => a + b, 0));
  const counts = named.map((key) => order.map((day) => days.get(day).get(key) ?? 0));
  if (airlines.length > named.length) {
    counts.push(totals.map((total, i) => total - counts.reduce((a, row) => a + row[i], 0)));
  }
  return { days: order, airlines, counts, totals, all };
}

/** Sums from the bottom up; the highest is drawn first, so each covers all but its own part. */
function stacked({ days, counts }) {
  const sums = [];
  for (const row of counts) sums.push(row.map((n, i) => n + (sums.at(-1)?.[i] ?? 0)));
  return [days.map((_, i) => i), ...sums.reverse()];
}

function seriesOf(airlines, index) {
  return airlines[index] === "others" ? "others" : String(index + 1);
}

function fill(airlines, index) {
  const name = seriesOf(airlines, index);
  return name === "others" ? faded("quiet", 1) : colour(`series-${name}`);
}
