// uPlot with the page's colours, the browser's clock and the size of its box.

import { dayOfMonth, timeOfDay } from "../format.js";
import { colour, FONT, onThemeChange } from "../theme.js";

const UPlot = globalThis.uPlot;
export const { paths } = UPlot;

/** Makes a plot in `box`, as wide as it and `height` pixels high. */
export function plot(box, height, options, data) {
  const width = () => Math.max(40, Math.floor(box.clientWidth));
  const made = new UPlot(
    { width: width(), height, legend: { show: false }, ...options },
    data,
    box,
  );
  new ResizeObserver(() => {
    if (box.clientWidth > 0 && width() !== made.width) made.setSize({ width: width(), height });
  }).observe(box);
  onThemeChange(() => made.redraw(false, true));
  return made;
}

/** Where the cursor has to be for a point's index; away for null. */
export function place(made, index) {
  if (index === null) return { left: -10, top: -10 };
  return { left: made.valToPos(made.data[0][index], "x"), top: 4 };
}

/** An axis in the page's quiet colours. */
export function axis(more) {
  return {
    stroke: () => colour("quiet"),
    font: `11px ${FONT}`,
    grid: { stroke: () => colour("line"), width: 1 },
    ticks: { show: false },
    border: { show: false },
    gap: 4,
    ...more,
  };
}

/** Times at the bottom: the hour, and the day where a new one begins. Seconds since 1970. */
export function timeAxis(more) {
  return axis({
    space: 64,
    size: 24,
    grid: { show: false },
    values: (_, splits) =>
      splits.map((s) => {
        const date = new Date(s * 1000);
        const midnight = date.getHours() === 0 && date.getMinutes() === 0;
        return midnight ? dayOfMonth(date) : timeOfDay(date);
      }),
    ...more,
  });
}
