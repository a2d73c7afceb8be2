// A small curve of the last minutes, without axes: the figure beside it says the number.

import { colour, faded } from "../theme.js";
import { plot } from "./plot.js";

const SAMPLES_MAX = 160;
const SPAN_S = 300;

export class Sparkline {
  constructor(box, series = "accent") {
    this.data = [[], []];
    this.box = box;
    this.series = series;
  }

  add(time_s, value) {
    const [times, values] = this.data;
    times.push(time_s);
    values.push(Number.isFinite(value) ? value : null);
    if (times.length > SAMPLES_MAX) {
      times.shift();
      values.shift();
    }
  }

  paint() {
    this.plot ??= plot(
      this.box,
      40,
      {
        padding: [3, 0, 1, 0],
        cursor: { show: false },
        scales: {
          x: { range: (_, __, max) => [max - SPAN_S, max] },
          y: { range: (_, __, max) => [0, max > 0 ? max * 1.08 : 1] },
        },
        series: [
          {},
          {
            stroke: () => colour(this.series),
            fill: () => faded(this.series, 0.13),
            width: 1.5,
            points: { show: false },
          },
        ],
        axes: [{ show: false }, { show: false }],
      },
      this.data,
    );
    this.plot.setData(this.data);
  }

  get points() {
    return this.data[0].length;
  }
}
