// The walk-forward report of each model, against "the last value": the prediction that nothing
// changes. A model that is not better is said to be not better, in words and in red.

import { byId, element, note, timeElement } from "../dom.js";
import { basisPoints, count, dateTime, duration, percent, plural } from "../format.js";

const NO_REPORT =
  "No report yet: a model is trained, and evaluated on what it has not seen, " +
  "when there are bars enough.";

export class Reports {
  constructor() {
    this.scores = new Map();
    this.live = new Map();
    this.shown = null;
  }

  take(models) {
    const now = JSON.stringify(models);
    if (now === this.shown) return;
    this.shown = now;
    this.live.clear();
    byId("reports-body").replaceChildren(
      ...(models.length === 0 ? [note(NO_REPORT)] : models.map((model) => this.report(model))),
    );
    for (const score of this.scores.values()) this.score(score);
  }

  /** The newest score brings the errors of the last hour and day with it. */
  score(score) {
    const name = String(score.model).split("@")[0];
    this.scores.set(name, score);
    this.live.get(name)?.replaceChildren(...liveRows(score));
  }

  report(model) {
    const live = element("dl", { class: "facts" });
    this.live.set(model.model, live);
    const good = model.beats_naive === true;
    const verdict = element(
      "p",
      { class: `verdict ${good ? "good" : "bad"}` },
      element("span", { class: "mark", "aria-hidden": "true" }, good ? "✓" : "✗"),
      element(
        "strong",
        {},
        good ? "Better than “the last value”." : "Not better than “the last value”.",
      ),
      ` ${sentence(model.verdict)}`,
    );
    return element(
      "article",
      { class: "report" },
      element(
        "h3",
        {},
        model.model,
        element("span", { class: "quiet" }, ` version ${model.version}`),
      ),
      verdict,
      model.n === undefined ? null : element("dl", { class: "facts" }, figures(model)),
      element("h4", {}, "Live, over all symbols and versions"),
      live,
      model.folds?.length > 0 ? folds(model) : null,
      element("p", { class: "summary" }, ...made(model)),
    );
  }
}

function figures(model) {
  const [low, high] = model.direction_interval ?? [NaN, NaN];
  const test = model.diebold_mariano;
  return [
    fact(
      "Skill",
      percent(model.skill, 2, true),
      "1 − RMSE / RMSE of the last value; above 0 is better",
      model.skill > 0 ? "good" : "bad",
    ),
    fact(
      "RMSE",
      basisPoints(model.rmse, false),
      `the last value: ${basisPoints(model.naive_rmse, false)}`,
    ),
    fact(
      "Mean error",
      basisPoints(model.mae, false),
      `the last value: ${basisPoints(model.naive_mae, false)}`,
    ),
    fact(
      "Direction right",
      percent(model.direction_accuracy),
      `95 % interval ${percent(low)} to ${percent(high)}; ` +
        `always the commoner one: ${percent(model.majority_rate)}`,
    ),
    fact(
      "80 % band held",
      percent(model.coverage_80),
      `the 95 % band: ${percent(model.coverage_95)}`,
    ),
    fact(
      "Chance",
      test ? `p ${test.p < 0.001 ? "< 0.001" : `= ${test.p.toFixed(3)}`}` : "–",
      test
        ? `Diebold-Mariano: ${test.statistic > 0 ? "the model" : "the last value"} errs less`
        : "not computable",
    ),
  ];
}

function fact(name, text, detail, tone = "") {
  return element(
    "div",
    {},
    element("dt", {}, name),
    element(
      "dd",
      {},
      element("span", { class: "number", "data-tone": tone }, text),
      element("span", { class: "detail" }, detail),
    ),
  );
}

function liveRows(score) {
  const rows = [
    ["Last hour", score.rolling_1h],
    ["Last day", score.rolling_1d],
  ];
  return rows
    .filter(([, sums]) => sums)
    .map(([name, sums]) => {
      const better = sums.rmse < sums.naive_rmse;
      return fact(
        name,
        basisPoints(sums.rmse, false),
        `the last value: ${basisPoints(sums.naive_rmse, false)}, so the model was ` +
          `${better ? "better" : "worse"}, over ${plural(sums.n, "prediction")}`,
        better ? "good" : "bad",
      );
    });
}

function folds(model) {
  const head = ["Fold", "Trained on", "Tested on", "From", "RMSE", "Last value", "Skill"];
  const rows = model.folds.map((fold, index) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, String(index + 1)),
      cell(count(fold.n_train)),
      cell(count(fold.n)),
      element("td", { class: "number" }, timeElement(fold.test_from)),
      cell(basisPoints(fold.rmse, false)),
      cell(basisPoints(fold.naive_rmse, false)),
      cell(percent(fold.skill, 2, true), fold.skill > 0 ? "good" : "bad"),
    ),
  );
  return element(
    "details",
    {},
    element(
      "summary",
      {},
      `${plural(model.folds.length, "fold")}, each tested on what came after it was trained`,
    ),
    element(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Folds" },
      element(
        "table",
        { class: "plain" },
        element("caption", { class: "unseen" }, "Walk-forward folds"),
        element(
          "thead",
          {},
          element(
            "tr",
            {},
            head.map((name, i) =>
              element("th", { scope: "col", class: i === 0 ? null : "number" }, name),
            ),
          ),
        ),
        element("tbody", {}, rows),
      ),
    ),
  );
}

function cell(text, tone = "") {
  return element("td", { class: "number" }, element("span", { "data-tone": tone }, text));
}

function made(model) {
  const leak = model.leak_check ?? {};
  const leaks =
    leak.passed === false
      ? `Leak check failed: ${(leak.features ?? []).map(({ feature }) => feature).join(", ")}. `
      : "Leak check passed. ";
  const trained = Date.parse(model.trained_at);
  const seconds = model.training_seconds ?? NaN;
  const rows = `${plural(model.train_rows, "row")} of ${model.fingerprint?.topic}`;
  return [
    leaks,
    `${model.engine}, ${rows} from ${dateTime(model.from)} to ${dateTime(model.to)}, `,
    `seed ${model.seed}, trained `,
    Number.isNaN(trained) ? "–" : timeElement(trained),
    ` in ${seconds < 60 ? `${seconds.toFixed(1)} s` : duration(seconds)}. `,
    element("code", {}, model.fingerprint?.rows ?? ""),
  ];
}

function sentence(text = "") {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
