// What the model said against what came: closes above, moves below. On the scale of prices every
// prediction looks right, because the last value does, too; the moves show what it is worth.

import { newest, poll } from "../api.js";
import { element, setAttribute, setText } from "../dom.js";
import { follow } from "../follow.js";
import { basisPoints, plural, price, timeOfDay, utc } from "../format.js";
import { draw } from "../frame.js";
import { colour, faded } from "../theme.js";
import { Figure } from "./figure.js";
import { axis, paths, place, plot, timeAxis } from "./plot.js";

const SHOWN = 90;
const PREDICTIONS_POLL_MS = 5_000;
const NO_SCORES =
  "No predictions yet: the model is trained when there are bars enough, " +
  "and each prediction is scored a minute later.";

export class Prediction {
  constructor(box, onScore) {
    this.figure = new Figure("prediction", "Predicted and actual prices, and their moves");
    this.onScore = onScore;
    this.upper = element("div");
    this.lower = element("div");
    const caption = (text) => element("p", { class: "quiet small" }, text);
    this.figure.plot.append(
      caption("Close, with the band that should hold 80 % of them"),
      this.upper,
      caption("Move from the last close, in basis points (1 bp = 0.01 %)"),
      this.lower,
    );
    box.append(this.figure.root);
    this.paint = this.paint.bind(this);
    this.round = 0;
    this.ends = [];
  }

  /** `topics`: { scores, predictions }; the second may be missing. */
  async choose(symbol, topics) {
    this.stop();
    const round = ++this.round;
    Object.assign(this, { symbol, topics, scores: new Map(), predictions: new Map() });
    let found;
    try {
      found = await newest(topics.scores, SHOWN, symbol);
      await this.readPredictions(round);
    } catch (problem) {
      if (round !== this.round) return;
      this.figure.say(`The scores cannot be read: ${problem.message}. It is tried again.`);
      this.again = setTimeout(() => this.choose(symbol, topics), 5_000);
      return;
    }
    if (round !== this.round) return;
    this.take(found);
    this.ends.push(
      follow(topics.scores, {
        key: symbol,
        from: found.at(-1)?.timestamp_ms ?? "earliest",
        onRecords: (batch) => this.take(batch),
        onGap: () => this.choose(symbol, topics),
      }),
    );
    const again = () => this.readPredictions(round).catch(() => {});
    this.ends.push(poll(PREDICTIONS_POLL_MS, again));
  }

  async readPredictions(round) {
    if (!this.topics.predictions) return;
    const limit = this.predictions.size === 0 ? SHOWN + 1 : 3;
    const found = await newest(this.topics.predictions, limit, this.symbol);
    if (round !== this.round) return;
    for (const { value } of found) {
      if (Number.isFinite(value?.target_start)) this.predictions.set(value.target_start, value);
    }
    draw(this.paint);
  }

  take(batch) {
    for (const { value } of batch) {
      if (Number.isFinite(value?.target_start)) this.scores.set(value.target_start, value);
    }
    const last = batch.at(-1)?.value;
    if (last) this.onScore(last);
    draw(this.paint);
  }

  paint() {
    const times = [...new Set([...this.scores.keys(), ...this.predictions.keys()])]
      .sort((a, b) => a - b)
      .slice(-SHOWN);
    if (times.length === 0) return this.figure.say(NO_SCORES);
    for (const map of [this.scores, this.predictions]) {
      for (const time of map.keys()) if (time < times[0]) map.delete(time);
    }
    this.times = times;
    this.figure.show();
    const data = this.data();
    if (!this.plots) this.build(data);
    this.plots.forEach((made, i) => made.setData(data[i]));
    this.showAt();
    this.describe();
  }

  data() {
    const x = this.times.map((ms) => ms / 1000);
    const pick = (map, field, scale = 1) =>
      this.times.map((time) => {
        const value = map.get(time)?.[field];
        return Number.isFinite(value) ? value * scale : null;
      });
    const either = (field, scale) => {
      const scored = pick(this.scores, field, scale);
      const waiting = pick(this.predictions, field, scale);
      return scored.map((value, i) => value ?? waiting[i]);
    };
    return [
      [
        x,
        pick(this.predictions, "low_80"),
        pick(this.predictions, "high_80"),
        pick(this.scores, "actual_close"),
        either("predicted_close"),
      ],
      [x, pick(this.scores, "actual_return", 10_000), either("predicted_return", 10_000)],
    ];
  }

  build(data) {
    const cursor = { sync: { key: "prediction" }, y: false, drag: { x: false, y: false } };
    const line = (name, more) => ({
      stroke: () => colour(name),
      width: 1.5,
      points: { show: false },
      spanGaps: false,
      ...more,
    });
    const edge = { stroke: "transparent", width: 0, points: { show: false } };
    const hooks = {
      setCursor: [
        (made) => {
          this.hovered = made.cursor.idx;
          draw(this.showLater);
        },
      ],
    };
    this.showLater = () => this.showAt();
    const closes = plot(
      this.upper,
      190,
      {
        padding: [6, 16, 0, 0],
        cursor,
        hooks,
        series: [{}, edge, edge, line("actual"), line("predicted", { dash: [5, 3] })],
        bands: [{ series: [2, 1], fill: () => faded("predicted", 0.14) }],
        axes: [timeAxis({ show: false }), axis({ size: 56, values: (_, v) => v.map(price) })],
      },
      data[0],
    );
    const moves = plot(
      this.lower,
      130,
      {
        padding: [6, 16, 0, 0],
        cursor,
        hooks,
        scales: {
          y: {
            range: (_, min, max) => {
              const most = Math.max(1, Math.abs(min ?? 0), Math.abs(max ?? 0)) * 1.1;
              return [-most, most];
            },
          },
        },
        series: [
          {},
          {
            paths: paths.bars({ size: [0.6, 12] }),
            fill: () => faded("actual", 0.55),
            width: 0,
            stroke: () => colour("actual"),
            points: { show: false },
          },
          line("predicted", { width: 2 }),
        ],
        axes: [timeAxis(), axis({ size: 56, values: (_, v) => v.map(signed) })],
      },
      data[1],
    );
    this.plots = [closes, moves];
    this.figure.onStep = (index) => closes.setCursor(place(closes, index));
    this.makeLegend();
  }

  makeLegend() {
    this.cells = [element("span", { class: "strong" }), element("b"), element("b"), element("b")];
    const key = (series, text, cell) =>
      element(
        "span",
        { class: "key" },
        element("i", { class: "swatch", "data-series": series }),
        `${text} `,
        cell,
      );
    this.figure.legend.replaceChildren(
      element(
        "div",
        { class: "values" },
        this.cells[0],
        key("actual", "actual", this.cells[1]),
        key("predicted", "predicted", this.cells[2]),
        element("span", {}, "error ", this.cells[3]),
      ),
    );
  }

  showAt() {
    const scored = this.times.filter((time) => this.scores.has(time));
    const time = this.times[this.hovered] ?? scored.at(-1) ?? this.times.at(-1);
    const score = this.scores.get(time);
    const said = score ?? this.predictions.get(time);
    const texts = [
      timeOfDay(time),
      score ? price(score.actual_close) : "not yet",
      price(said.predicted_close),
      score ? basisPoints(score.error) : "–",
    ];
    texts.forEach((text, i) => setText(this.cells[i], text));
    setAttribute(this.cells[0], "title", utc(time));
    this.figure.at(
      this.times.indexOf(time),
      this.times.length,
      `${texts[0]}, actual ${texts[1]}, predicted ${texts[2]}, error ${texts[3]}`,
    );
  }

  describe() {
    const scored = this.times.filter((time) => this.scores.has(time));
    const waiting = this.times.length - scored.length;
    const size = (field) => scored.reduce((a, t) => a + Math.abs(this.scores.get(t)[field]), 0);
    let text = `${this.symbol}: ${plural(scored.length, "scored prediction")}`;
    if (scored.length > 0) {
      const [ours, naive] = [size("error"), size("naive_error")].map((sum) => sum / scored.length);
      text +=
        `, mean error ${basisPoints(ours, false)} against ${basisPoints(naive, false)} of ` +
        "“the last value”";
    }
    if (waiting > 0) text += `; ${count(waiting)} waiting for the minute to end`;
    this.figure.drawn(this.times.length, `${text}.`);
  }

  stop() {
    clearTimeout(this.again);
    for (const end of this.ends.splice(0)) end();
  }
}

function count(number) {
  return number === 1 ? "one" : String(number);
}

function signed(value) {
  return value > 0 ? `+${value}` : String(value).replace("-", "\u2212");
}
