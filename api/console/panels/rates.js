// Live rates: a number and the curve of the last five minutes for each, from the overview.

import { counted } from "../charts/figure.js";
import { Sparkline } from "../charts/sparkline.js";
import { byId, element, setAttribute, setText } from "../dom.js";
import { bytes, count, percent, rate } from "../format.js";
import { draw } from "../frame.js";

const TILES = [
  ["Records in", (o) => o.rates.records_in_per_s, (v) => [rate(v), "/s"]],
  ["Kafka requests", (o) => o.rates.requests_per_s, (v) => [rate(v), "/s"]],
  ["Kafka bytes in", (o) => o.rates.bytes_in_per_s, (v) => withUnit(v, "/s")],
  ["Kafka bytes out", (o) => o.rates.bytes_out_per_s, (v) => withUnit(v, "/s")],
  ["Memory", (o) => o.memory.rss ?? NaN, (v) => withUnit(v), memoryOf, "series-4"],
  ["Disk", (o) => o.disk.used, (v) => withUnit(v), diskOf, "series-4"],
];

export class Rates {
  constructor() {
    this.tiles = TILES.map(([name, read, show, more, series]) => {
      const tile = {
        read,
        show,
        more,
        number: element("span", { class: "number" }, "–"),
        unit: element("span", { class: "unit" }),
        detail: element("span", { class: "detail" }, more ? "" : "last 5 minutes"),
        curve: element("div", { class: "curve", "aria-hidden": "true" }),
      };
      tile.line = new Sparkline(tile.curve, series);
      const figure = element("p", { class: "figure" }, tile.number, " ", tile.unit);
      byId("rate-tiles").append(
        element("div", { class: "tile" }, element("h3", {}, name), figure, tile.curve, tile.detail),
      );
      return tile;
    });
    this.paint = this.paint.bind(this);
  }

  take(overview) {
    const time_s = Date.now() / 1000;
    for (const tile of this.tiles) {
      tile.value = tile.read(overview);
      tile.line.add(time_s, tile.value);
    }
    this.overview = overview;
    draw(this.paint);
  }

  paint() {
    for (const tile of this.tiles) {
      const [number, unit] = tile.show(tile.value);
      setText(tile.number, number);
      setText(tile.unit, unit);
      if (tile.more) tile.more(tile, this.overview);
      tile.line.paint();
    }
    counted(byId("rate-tiles"), this.tiles[0].line.points);
    this.paintListeners();
  }

  paintListeners() {
    const { connections, listeners } = this.overview;
    const key = JSON.stringify([connections, listeners]);
    if (key === this.key) return;
    this.key = key;
    const one = ({ name, protocol, address }) =>
      element(
        "li",
        {},
        element("b", {}, name),
        name === protocol ? " " : ` ${protocol} `,
        element("code", {}, address),
      );
    byId("listeners").replaceChildren(
      element(
        "p",
        {},
        element("b", {}, count(connections)),
        connections === 1 ? " client connection" : " client connections",
      ),
      element("ul", { "aria-label": "Listeners" }, listeners.map(one)),
    );
  }
}

function withUnit(value, per = "") {
  const [number, unit] = bytes(value).split(" ");
  return [number, unit ? unit + per : ""];
}

function memoryOf(tile, { memory }) {
  const share = memory.rss / memory.cap;
  setText(tile.detail, `${percent(share, 0)} of the ${bytes(memory.cap)} allowed`);
  setAttribute(tile.detail, "data-tone", share > 0.95 ? "bad" : "");
}

function diskOf(tile, { disk }) {
  setText(tile.detail, disk.free === null ? "of the log" : `${bytes(disk.free)} free`);
}
