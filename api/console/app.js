// The page: asks the server how it is, finds the topics that the charts are made of, and hands
// each panel what is its own. Which topics there are is asked, never assumed: `X.bars.1m` and
// `X.indicators.1m` belong to the ticks `X`, likewise `X.scores`, `X.predictions`; `Y.counts`.

import { get, newest, poll } from "./api.js";
import { Candles } from "./charts/candles.js";
import { Flights } from "./charts/flights.js";
import { Prediction } from "./charts/prediction.js";
import { byId, element } from "./dom.js";
import { Groups, Processors, Topics } from "./panels/data.js";
import { Health } from "./panels/health.js";
import { Rates } from "./panels/rates.js";
import { Reports } from "./panels/reports.js";
import { Sources } from "./panels/sources.js";

const OVERVIEW_MS = 2_000;
const TABLES_MS = 3_000;
const MODELS_MS = 15_000;
const SYMBOLS_MS = 30_000;
/** The newest so many bars tell which symbols there are. */
const SYMBOL_BARS = 400;

const health = new Health();
const rates = new Rates();
const topics = new Topics();
const groups = new Groups();
const processors = new Processors();
const reports = new Reports();
const sources = new Sources(() => readTables());
const candles = new Candles(byId("prices-body"));
const flights = new Flights(byId("flights-body"));
const prediction = new Prediction(byId("model-body"), (score) => reports.score(score));
const select = byId("symbol");

/** Topic names by what they are for; empty until the first answer. */
let found = {};
const started = {};

async function readOverview() {
  try {
    const overview = await get("overview");
    health.alive(overview);
    rates.take(overview);
  } catch (problem) {
    health.silent(problem);
  }
}

async function readTables() {
  const quietly = (path, use) =>
    get(path)
      .then(use)
      .catch(() => {});
  await quietly("topics", (answer) => {
    topics.take(answer.topics);
    discover(answer.topics);
  });
  await quietly("sources", (answer) => sources.take(answer.sources));
  await quietly("groups", (answer) => groups.take(answer.groups));
  await quietly("processors", (answer) => processors.take(answer.processors));
}

function discover(list) {
  const names = new Set(list.map(({ name }) => name));
  const holds = new Set(
    list
      .filter(({ partitions }) =>
        partitions.some((partition) => partition.end_offset > partition.start_offset),
      )
      .map(({ name }) => name),
  );
  const first = (ending) => [...names].sort().find((name) => name.endsWith(ending));
  const there = (name) => (names.has(name) ? name : null);
  const bars = first(".bars.1m");
  const base = bars?.slice(0, -".bars.1m".length);
  const scores = there(`${base}.scores`) ?? first(".scores");
  found = {
    bars,
    scores,
    counts: first(".counts"),
    indicators: there(`${base}.indicators.1m`),
    ticks: there(base),
    predictions: scores ? there(scores.replace(/\.scores$/, ".predictions")) : null,
  };
  if (!bars) candles.figure.say(missing("bars", ".bars.1m", "window"));
  else if (!holds.has(bars))
    candles.figure.say("No bars yet: the first appears when its minute is over.");
  else if (!started.symbols) begin("symbols", () => poll(SYMBOLS_MS, readSymbols));
  if (!found.counts) flights.figure.say(missing("counts", ".counts", "count"));
  else begin("flights", () => flights.start(found.counts));
  if (!scores) prediction.figure.say(missing("scores", ".scores", "model"));
  else if (select.disabled) prediction.figure.say("No predictions yet: they need bars first.");
  else begin("prediction", () => prediction.choose(select.value, found));
}

function missing(what, ending, table) {
  return (
    `No topic of ${what}, one whose name ends in ${ending}: ` +
    `a [[${table}]] in pipeline.toml makes one.`
  );
}

function begin(what, start) {
  if (started[what]) return;
  started[what] = true;
  start();
}

async function readSymbols() {
  const read = await newest(found.bars, SYMBOL_BARS).catch(() => []);
  const symbols = [
    ...new Set(read.map(({ key }) => key).filter((key) => typeof key === "string")),
  ].sort();
  const known = [...select.options].map(({ value }) => value);
  const all = select.disabled ? symbols : [...new Set([...known, ...symbols])].sort();
  if (all.length === 0 || (!select.disabled && all.join() === known.join())) return;
  const chosen = select.disabled
    ? all.includes(remembered())
      ? remembered()
      : all[0]
    : select.value;
  select.replaceChildren(
    ...all.map((name) => element("option", { value: name, selected: name === chosen }, name)),
  );
  if (!select.disabled) return;
  select.disabled = false;
  choose();
}

function choose() {
  candles.choose(select.value, found);
  if (!found.scores) return;
  started.prediction = true;
  prediction.choose(select.value, found);
}

/** The chosen symbol is in the address, so that a page can be bookmarked as it is. */
function remembered() {
  return new URLSearchParams(location.search).get("symbol");
}

select.addEventListener("change", () => {
  const address = new URL(location.href);
  address.searchParams.set("symbol", select.value);
  history.replaceState(null, "", address);
  choose();
});

byId("zone").textContent = Intl.DateTimeFormat().resolvedOptions().timeZone;
poll(OVERVIEW_MS, readOverview);
poll(TABLES_MS, readTables);
poll(MODELS_MS, () =>
  get("models")
    .then((answer) => reports.take(answer.models))
    .catch(() => {}),
);
