// Candles with Bollinger bands, and the Aroon oscillator in a pane below: one symbol at a time.
//
// History is read once, then bars and indicators are followed from the last bar read, so nothing
// falls between the two and a bar that comes twice only replaces itself. The minute that is not
// closed yet is drawn from the ticks, asked for once a second; the closed bar replaces it.

import {
  CandlestickSeries,
  LineSeries,
  LineStyle,
  createChart,
} from "../vendor/lightweight-charts.standalone.production.mjs";
import { newest, poll, records } from "../api.js";
import { element, setAttribute, setText } from "../dom.js";
import { follow } from "../follow.js";
import { dateTime, dayOfMonth, minus, plural, price, timeOfDay, utc } from "../format.js";
import { draw } from "../frame.js";
import { colour, FONT, onThemeChange } from "../theme.js";
import { counted, Figure } from "./figure.js";

const HISTORY_BARS = 720;
const BARS_MAX = 1440;
const TICK_POLL_MS = 1_000;
const NO_BARS = "No bars yet: the first appears when its minute is over.";

export class Candles {
  constructor(box) {
    this.figure = new Figure("candles", "Candles with Bollinger bands, Aroon oscillator below");
    box.append(this.figure.root);
    this.values = element("div", { class: "values" });
    this.figure.legend.append(this.values, this.tools());
    this.paint = this.paint.bind(this);
    this.round = 0;
    this.ends = [];
  }

  tools() {
    const button = (label, text, onclick) =>
      element(
        "button",
        { type: "button", class: "small", title: label, "aria-label": label, onclick },
        text,
      );
    return element(
      "div",
      { class: "tools" },
      button("Show fewer bars", "+", () => this.zoom(0.6)),
      button("Show more bars", "−", () => this.zoom(1.6)),
      button("Back to the latest bar", "latest", () => this.chart?.timeScale().scrollToRealTime()),
    );
  }

  /** `topics`: { bars, indicators, ticks }, the last two may be missing. */
  async choose(symbol, topics) {
    this.stop();
    const round = ++this.round;
    this.symbol = symbol;
    this.topics = topics;
    this.bars = new Map();
    this.indicators = new Map();
    this.forming = null;
    this.stale = true;
    let found;
    try {
      found = await Promise.all([
        newest(topics.bars, HISTORY_BARS, symbol),
        topics.indicators ? newest(topics.indicators, HISTORY_BARS, symbol) : [],
      ]);
    } catch (problem) {
      if (round === this.round) this.failed(problem);
      return;
    }
    if (round !== this.round) return;
    this.take(this.bars, found[0]);
    this.take(this.indicators, found[1]);
    this.live(found);
    draw(this.paint);
  }

  failed(problem) {
    this.figure.say(`The bars cannot be read: ${problem.message}. It is tried again.`);
    this.again = setTimeout(() => this.choose(this.symbol, this.topics), 5_000);
  }

  live(found) {
    const onGap = () => this.choose(this.symbol, this.topics);
    const track = (topic, map, history) => {
      if (!topic) return;
      const from = history.at(-1)?.timestamp_ms ?? "earliest";
      const onRecords = (batch) => {
        this.take(map, batch);
        draw(this.paint);
      };
      this.ends.push(follow(topic, { key: this.symbol, from, onRecords, onGap }));
    };
    track(this.topics.bars, this.bars, found[0]);
    track(this.topics.indicators, this.indicators, found[1]);
    if (this.topics.ticks) this.ends.push(poll(TICK_POLL_MS, () => this.tick()));
  }

  take(map, batch) {
    for (const { value } of batch) {
      if (!Number.isFinite(value?.start)) continue;
      map.set(value.start, value);
      // Once a minute, and often for a bar before the newest: then all is set anew.
      this.stale = true;
    }
  }

  /** The ticks since the last closed bar make the candle that is not closed yet. */
  async tick() {
    const round = this.round;
    const closed = this.lastClosed();
    if (!closed) return;
    const span_ms = closed.end - closed.start;
    const known = this.forming && this.forming.start >= closed.end;
    if (!known) this.forming = null;
    const from = known ? this.forming.last_ms + 1 : closed.end;
    const query = { key: this.symbol, from, limit: 1000, fields: "price" };
    const found = await records(this.topics.ticks, query).catch(() => []);
    if (round !== this.round) return;
    for (const { timestamp_ms, value } of found) {
      if (!Number.isFinite(value?.price)) continue;
      const start = Math.floor(timestamp_ms / span_ms) * span_ms;
      if (this.forming?.start === start) grow(this.forming, value.price, timestamp_ms);
      else this.forming = begin(start, span_ms, value.price, timestamp_ms);
    }
    if (found.length > 0) draw(this.paint);
  }

  lastClosed() {
    let last = null;
    for (const bar of this.bars.values()) {
      if (bar.final !== false && (!last || bar.start > last.start)) last = bar;
    }
    return last;
  }

  paint() {
    if (this.bars.size === 0) return this.figure.say(NO_BARS);
    if (!this.chart) this.build();
    if (this.bars.size > BARS_MAX) this.forget();
    if (this.stale) this.paintAll();
    else this.paintLast();
    this.describe();
  }

  forget() {
    const kept = [...this.bars.keys()].sort((a, b) => a - b).slice(-HISTORY_BARS);
    for (const map of [this.bars, this.indicators]) {
      for (const start of map.keys()) if (start < kept[0]) map.delete(start);
    }
    this.stale = true;
  }

  sorted() {
    const bars = new Map(this.bars);
    const { forming } = this;
    if (forming && bars.get(forming.start)?.final !== true) bars.set(forming.start, forming);
    return [...bars.values()].sort((a, b) => a.start - b.start);
  }

  paintAll() {
    const first = this.last_ms === undefined;
    const bars = this.sorted();
    this.series.candles.setData(bars.map(candle));
    for (const [name, field] of LINES) {
      this.series[name].setData(bars.map((bar) => this.point(bar, field)));
    }
    this.last_ms = bars.at(-1).start;
    this.stale = false;
    if (first || this.shown !== this.symbol) this.newestBars(this.narrow() ? 45 : 120);
    this.shown = this.symbol;
  }

  /** Between two closed bars only the candle that is not closed changes. */
  paintLast() {
    const { forming } = this;
    if (!forming || forming.start < this.last_ms) return;
    this.series.candles.update(candle(forming));
    this.last_ms = forming.start;
  }

  point(bar, field) {
    const time = bar.start / 1000;
    const value = this.indicators.get(bar.start)?.[field];
    return Number.isFinite(value) ? { time, value } : { time };
  }

  build() {
    this.figure.show();
    // The library's own logo is a <style> element, which the security policy refuses: the footer
    // has the notice and the link instead.
    this.chart = createChart(this.figure.plot, {
      autoSize: true,
      layout: { attributionLogo: false },
    });
    const line = (options, pane = 0) =>
      this.chart.addSeries(
        LineSeries,
        {
          priceLineVisible: false,
          crosshairMarkerVisible: false,
          lineWidth: 1,
          ...options,
        },
        pane,
      );
    this.series = {
      upper: line({ lastValueVisible: false }),
      middle: line({ lastValueVisible: false, lineStyle: LineStyle.Dashed }),
      lower: line({ lastValueVisible: false }),
      candles: this.chart.addSeries(CandlestickSeries, { priceLineStyle: LineStyle.Dotted }),
      aroon: line(
        {
          lineWidth: 2,
          title: "Aroon",
          autoscaleInfoProvider: () => ({
            priceRange: { minValue: -110, maxValue: 110 },
          }),
        },
        1,
      ),
    };
    const custom = (formatter, minMove) => ({
      priceFormat: { type: "custom", formatter, minMove },
    });
    this.series.candles.applyOptions(custom(price, 0.00001));
    this.series.aroon.applyOptions(custom((value) => minus(Math.round(value)), 1));
    this.zero = this.series.aroon.createPriceLine({
      price: 0,
      lineWidth: 1,
      lineStyle: LineStyle.Dotted,
      axisLabelVisible: false,
    });
    this.chart.panes()[0].setStretchFactor(3);
    this.chart.panes()[1].setStretchFactor(1);
    this.chart.subscribeCrosshairMove((at) => {
      // Moved by new data, not by a hand, it does not take the place the keys chose.
      if (at.sourceEvent) this.stepped_ms = null;
      this.hovered_ms = at.time === undefined ? null : at.time * 1000;
      draw(this.paintValues);
    });
    this.paintValues = () => this.showValues();
    this.figure.onStep = (index) => this.step(index);
    this.colours();
    onThemeChange(() => this.colours());
    this.namePane();
  }

  /** The lower pane is a chart of its own to a test; its row exists after the first drawing. */
  namePane() {
    const row = this.chart.panes()[1]?.getHTMLElement();
    if (!row) return void requestAnimationFrame(() => this.namePane());
    row.dataset.chart = "aroon";
    row.dataset.testid = "chart-aroon";
    this.pane = row;
    draw(this.paint);
  }

  colours() {
    this.chart.applyOptions({
      layout: {
        background: { type: "solid", color: colour("card") },
        textColor: colour("quiet"),
        fontFamily: FONT,
        fontSize: 11,
        panes: { separatorColor: colour("line"), separatorHoverColor: colour("line") },
      },
      grid: { vertLines: { visible: false }, horzLines: { color: colour("line") } },
      rightPriceScale: { borderVisible: false, minimumWidth: 56 },
      timeScale: {
        borderColor: colour("line"),
        timeVisible: true,
        rightOffset: 3,
        tickMarkFormatter: (time, kind) => tickMark(time * 1000, kind),
      },
      crosshair: {
        vertLine: { color: colour("quiet"), labelBackgroundColor: colour("accent-strong") },
        horzLine: { color: colour("quiet"), labelBackgroundColor: colour("accent-strong") },
      },
      localization: { timeFormatter: (time) => both(time * 1000) },
      // The wheel scrolls the page; fingers scroll it up and down, and the chart left and right.
      handleScroll: { mouseWheel: false, vertTouchDrag: false },
      handleScale: { mouseWheel: false },
    });
    const { candles, upper, middle, lower, aroon } = this.series;
    // Rising candles are pale, falling ones full: they differ without their colour, too.
    candles.applyOptions({
      upColor: colour("rise-body"),
      borderUpColor: colour("rise"),
      wickUpColor: colour("rise"),
      downColor: colour("fall"),
      borderDownColor: colour("fall"),
      wickDownColor: colour("fall"),
      priceLineColor: colour("quiet"),
    });
    for (const series of [upper, lower]) series.applyOptions({ color: colour("band") });
    middle.applyOptions({ color: colour("band") });
    aroon.applyOptions({ color: colour("series-2") });
    this.zero.applyOptions({ color: colour("quiet") });
  }

  narrow() {
    return this.figure.plot.clientWidth < 520;
  }

  newestBars(number) {
    const to = this.sorted().length + 2;
    this.chart.timeScale().setVisibleLogicalRange({ from: to - number, to });
  }

  zoom(factor) {
    const scale = this.chart?.timeScale();
    const range = scale?.getVisibleLogicalRange();
    if (!range) return;
    const span = Math.min(BARS_MAX, Math.max(10, (range.to - range.from) * factor));
    scale.setVisibleLogicalRange({ from: range.to - span, to: range.to });
  }

  describe() {
    const bars = this.sorted();
    const last = bars.at(-1);
    const lows = bars.map((bar) => bar.low);
    const highs = bars.map((bar) => bar.high);
    const least = lows.reduce((a, b) => Math.min(a, b));
    const most = highs.reduce((a, b) => Math.max(a, b));
    const withAroon = [...this.indicators.values()].filter((v) => Number.isFinite(v.aroon_osc));
    const aroon = withAroon.at(-1)?.aroon_osc;
    const trend =
      aroon === undefined
        ? ""
        : ` Aroon oscillator ${minus(Math.round(aroon))}: ${trendOf(aroon)}.`;
    const unfinished = last === this.forming ? ", its minute not over" : "";
    this.figure.drawn(
      bars.length,
      `${this.symbol}, ${plural(bars.length, "bar")} from ` +
        `${dateTime(bars[0].start)} to ${timeOfDay(last.start)}: between ${price(least)} and ` +
        `${price(most)}, last ${price(last.close)}${unfinished}.${trend}`,
    );
    if (this.pane) counted(this.pane, withAroon.length);
    this.showValues();
  }

  showValues() {
    const bars = this.sorted();
    const hovered = bars.findIndex((one) => one.start === (this.stepped_ms ?? this.hovered_ms));
    const index = hovered < 0 ? bars.length - 1 : hovered;
    const bar = bars[index];
    if (!bar) return;
    // The candle that is not closed has no indicators yet; then those of the one before are shown.
    const before = hovered < 0 ? this.indicators.get(bars[index - 1]?.start) : undefined;
    const known = this.indicators.get(bar.start) ?? before ?? {};
    const pairs = [
      ["at", timeOfDay(bar.start)],
      ["O", price(bar.open)],
      ["H", price(bar.high)],
      ["L", price(bar.low)],
      ["C", price(bar.close)],
      [
        "Bollinger",
        `${price(known.bb_lower)} / ${price(known.bb_middle)} / ${price(known.bb_upper)}`,
      ],
      ["Aroon", Number.isFinite(known.aroon_osc) ? minus(Math.round(known.aroon_osc)) : "–"],
    ];
    if (this.cells === undefined) {
      this.cells = pairs.map(() => element("b"));
      this.values.append(
        ...pairs.map(([name], i) => element("span", {}, `${name} `, this.cells[i])),
      );
    }
    pairs.forEach(([, text], i) => setText(this.cells[i], text));
    setAttribute(this.cells[0], "title", utc(bar.start));
    if (this.stepped_ms) this.pointAt(bar);
    this.figure.at(index, bars.length, pairs.map((pair) => pair.join(" ")).join(", "));
  }

  step(index) {
    const bar = this.sorted()[index ?? -1];
    this.stepped_ms = bar ? bar.start : null;
    draw(this.paintValues);
    if (!bar) {
      this.hovered_ms = null;
      return this.chart.clearCrosshairPosition();
    }
    this.pointAt(bar);
    const scale = this.chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    const shift = Math.min(0, index - 2 - range.from) + Math.max(0, index + 2 - range.to);
    if (shift !== 0)
      scale.setVisibleLogicalRange({ from: range.from + shift, to: range.to + shift });
  }

  pointAt(bar) {
    this.chart.setCrosshairPosition(bar.close, bar.start / 1000, this.series.candles);
  }

  stop() {
    clearTimeout(this.again);
    for (const end of this.ends.splice(0)) end();
    this.last_ms = undefined;
    this.stepped_ms = null;
  }
}

const LINES = [
  ["upper", "bb_upper"],
  ["middle", "bb_middle"],
  ["lower", "bb_lower"],
  ["aroon", "aroon_osc"],
];

function candle({ start, open, high, low, close }) {
  return { time: start / 1000, open, high, low, close };
}

function begin(start, span_ms, at, last_ms) {
  return {
    start,
    end: start + span_ms,
    open: at,
    high: at,
    low: at,
    close: at,
    final: false,
    last_ms,
  };
}

function grow(bar, at, last_ms) {
  bar.high = Math.max(bar.high, at);
  bar.low = Math.min(bar.low, at);
  bar.close = at;
  bar.last_ms = last_ms;
}

/** Kinds 0 to 2 are year, month and day, in UTC days; only a local midnight is called a day. */
function tickMark(ms, kind) {
  const date = new Date(ms);
  const midnight = date.getHours() === 0 && date.getMinutes() === 0;
  return kind <= 2 && midnight ? dayOfMonth(ms) : timeOfDay(ms);
}

/** The crosshair's label: the time here, and UTC beside it. */
function both(ms) {
  return `${dateTime(ms)} (${utc(ms).slice(11, 16)} UTC)`;
}

function trendOf(aroon) {
  if (aroon >= 50) return "rising";
  if (aroon <= -50) return "falling";
  return "no clear trend";
}
