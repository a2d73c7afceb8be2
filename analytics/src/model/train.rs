//! Training and its walk-forward report.
//!
//! Rules: the target is a return known only `horizon` bars later; folds expand, with a gap of the
//! horizon between training and test; nothing is tuned on any fold; every figure stands beside
//! that of "the last value"; a feature that all but equals the target stops the training.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::engine::{self, Regressor};
use super::features::{FEATURES, Features};
use crate::config::ModelConfig;
use crate::evaluation::conformal::{coverage, half_width};
use crate::evaluation::metrics::{Figures, correlation, figures, mean};
use crate::evaluation::split::{Split, time_series_split_groups};

/// A feature that correlates more with the target is taken for a leak.
const LEAK_CORRELATION: f64 = 0.999;
/// Of each training fold, the newest part is kept back to measure the intervals' width.
const CALIBRATION_SHARE: f64 = 0.2;
const SHARES: [f64; 2] = [0.80, 0.95];
/// The significance at which a smaller error counts as smaller.
const P_MAX: f64 = 0.05;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TrainRow {
    pub partition: i32,
    pub offset: i64,
    /// The oldest input record that the features were made of.
    pub from_offset: i64,
    pub close: f64,
    pub features: Features,
    pub target: f64,
}

/// A copy of everything a training needs, for another thread.
pub(crate) struct Job {
    pub config: ModelConfig,
    pub version: u64,
    /// By start and symbol.
    pub rows: BTreeMap<(i64, String), TrainRow>,
}

pub(crate) struct Trained {
    /// `None` when the training was refused.
    pub model: Option<Arc<dyn Regressor>>,
    pub stored: Vec<u8>,
    pub widths: Widths,
    pub report: Value,
    pub seconds: f64,
    pub skill: Option<f64>,
    pub verdict: String,
}

/// Half-widths of the live intervals, from errors the models had not seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, serde::Deserialize)]
pub(crate) struct Widths {
    pub width_80: Option<f64>,
    pub width_95: Option<f64>,
}

struct Data {
    times: Vec<i64>,
    rows: Vec<Features>,
    targets: Vec<f64>,
}

#[derive(Serialize)]
struct Fold {
    n_train: usize,
    train_from: i64,
    train_to: i64,
    test_from: i64,
    test_to: i64,
    #[serde(flatten)]
    figures: Figures,
    coverage_80: Option<f64>,
    coverage_95: Option<f64>,
}

/// All folds' test predictions together.
#[derive(Default)]
struct Pooled {
    actual: Vec<f64>,
    predicted: Vec<f64>,
    train_maes: Vec<f64>,
    /// Per share: rows inside, rows measured.
    inside: [(f64, f64); 2],
}

pub(crate) fn train(job: &Job) -> Result<Trained, String> {
    let begun = Instant::now();
    let data = Data {
        times: job.rows.keys().map(|(start_ms, _)| *start_ms).collect(),
        rows: job.rows.values().map(|row| row.features).collect(),
        targets: job.rows.values().map(|row| row.target).collect(),
    };
    let leaks = leaks(&data);
    if !leaks.is_empty() {
        return Ok(refused(job, &leaks, begun));
    }
    let config = &job.config;
    let splits = time_series_split_groups(&data.times, config.train.folds, config.horizon)
        .ok_or("too few rows for the folds")?;
    let mut pooled = Pooled::default();
    let mut folds = Vec::new();
    for split in &splits {
        folds.push(fold(config, &data, split, &mut pooled)?);
    }
    let train_mae = mean(&pooled.train_maes);
    let all = figures(&pooled.actual, &pooled.predicted, Some(train_mae), config.horizon)
        .ok_or("the folds have no rows")?;
    let errors: Vec<f64> =
        pooled.predicted.iter().zip(&pooled.actual).map(|(p, a)| p - a).collect();
    let widths = Widths {
        width_80: half_width(&errors, SHARES[0]),
        width_95: half_width(&errors, SHARES[1]),
    };
    let model = engine::fit(config.engine, &config.train, &data.rows, &data.targets)?;
    let stored = model.store()?;
    let beats_naive = beats_naive(&all);
    let verdict = verdict(&all, beats_naive);
    let skill = all.skill;
    let seconds = begun.elapsed().as_secs_f64();
    let mut report = head(job, seconds);
    merge(&mut report, json!(all));
    merge(
        &mut report,
        json!({
            "beats_naive": beats_naive,
            "verdict": verdict,
            "coverage_80": pooled.coverage(0),
            "coverage_95": pooled.coverage(1),
            "leak_check": { "passed": true, "threshold": LEAK_CORRELATION, "features": [] },
            "prediction_micros": prediction_micros(&*model, &data.rows),
            "model_bytes": stored.len(),
            "importances": importances(&*model),
            "folds": folds,
        }),
    );
    Ok(Trained { model: Some(model), stored, widths, report, seconds, skill, verdict })
}

fn fold(
    config: &ModelConfig,
    data: &Data,
    split: &Split,
    pooled: &mut Pooled,
) -> Result<Fold, String> {
    let (train, test) = (split.train.clone(), split.test.clone());
    let fit = |upto: usize| {
        engine::fit(config.engine, &config.train, &data.rows[..upto], &data.targets[..upto])
    };
    let actual = &data.targets[test.clone()];
    let predicted = fit(train.end)?.predict(&data.rows[test.clone()]);
    let train_mae = mean(&data.targets[train.clone()].iter().map(|t| t.abs()).collect::<Vec<_>>());
    let figures = figures(actual, &predicted, Some(train_mae), config.horizon)
        .ok_or("a fold without test rows")?;
    let coverages = interval_coverages(config, data, split, &fit, pooled)?;
    pooled.actual.extend_from_slice(actual);
    pooled.predicted.extend_from_slice(&predicted);
    pooled.train_maes.push(train_mae);
    Ok(Fold {
        n_train: train.len(),
        train_from: data.times[train.start],
        train_to: data.times[train.end - 1],
        test_from: data.times[test.start],
        test_to: data.times[test.end - 1],
        figures,
        coverage_80: coverages[0],
        coverage_95: coverages[1],
    })
}

/// Split conformal: a model of the older part of the training fold, its errors on the newer part,
/// and how often the interval so made held in the test fold.
fn interval_coverages(
    config: &ModelConfig,
    data: &Data,
    split: &Split,
    fit: &impl Fn(usize) -> Result<Arc<dyn Regressor>, String>,
    pooled: &mut Pooled,
) -> Result<[Option<f64>; 2], String> {
    // Positive and at most the length, so it fits.
    let kept_back = (split.train.len() as f64 * CALIBRATION_SHARE) as usize;
    let calibration = split.train.end - kept_back;
    // The gap between the two parts is of times, as the folds' is.
    let gap_ms = config.every.ms().saturating_mul(i64::try_from(config.horizon).unwrap_or(1));
    let newest = data.times[calibration.min(data.times.len() - 1)].saturating_sub(gap_ms);
    let proper = data.times[..calibration].partition_point(|time| *time < newest);
    if proper == 0 || kept_back == 0 {
        return Ok([None, None]);
    }
    let model = fit(proper)?;
    let errors = |range: std::ops::Range<usize>| -> Vec<f64> {
        let predicted = model.predict(&data.rows[range.clone()]);
        predicted.iter().zip(&data.targets[range]).map(|(p, a)| p - a).collect()
    };
    let seen = errors(calibration..split.train.end);
    let tested = errors(split.test.clone());
    let mut coverages = [None; 2];
    for (index, share) in SHARES.into_iter().enumerate() {
        if let Some(width) = half_width(&seen, share) {
            let held = coverage(&tested, width);
            pooled.inside[index].0 += held * tested.len() as f64;
            pooled.inside[index].1 += tested.len() as f64;
            coverages[index] = Some(held);
        }
    }
    Ok(coverages)
}

impl Pooled {
    fn coverage(&self, index: usize) -> Option<f64> {
        let (inside, measured) = self.inside[index];
        (measured > 0.0).then(|| inside / measured)
    }
}

/// Smaller squared errors than the last value's, by more than chance explains.
fn beats_naive(all: &Figures) -> bool {
    all.skill.is_some_and(|skill| skill > 0.0)
        && all.diebold_mariano.is_some_and(|test| test.p < P_MAX && test.statistic > 0.0)
}

fn verdict(all: &Figures, beats_naive: bool) -> String {
    let Some(skill) = all.skill else {
        return "the price never moved, so there is nothing to say".to_owned();
    };
    let percent = skill * 100.0;
    let p = match all.diebold_mariano {
        None => "p is not computable".to_owned(),
        Some(test) if test.p < 0.001 => "p < 0.001".to_owned(),
        Some(test) => format!("p = {:.3}", test.p),
    };
    let says = match (beats_naive, skill > 0.0) {
        (true, _) => "it beats the last value",
        (false, true) => "its lead over the last value may be chance",
        (false, false) => "it does not beat the last value",
    };
    format!("{says}: skill {percent:+.2} % over {} predictions, {p}", all.n)
}

fn leaks(data: &Data) -> Vec<Value> {
    let mut leaks = Vec::new();
    for (index, name) in FEATURES.iter().enumerate() {
        let column: Vec<f64> = data.rows.iter().map(|row| row[index]).collect();
        let found = correlation(&column, &data.targets).unwrap_or(0.0);
        if found.abs() > LEAK_CORRELATION {
            leaks.push(json!({ "feature": name, "correlation": found }));
        }
    }
    leaks
}

fn refused(job: &Job, leaks: &[Value], begun: Instant) -> Trained {
    let names: Vec<&str> = leaks.iter().filter_map(|leak| leak["feature"].as_str()).collect();
    let verdict = format!(
        "REFUSED: {} all but equals the target, so the model would only read the answer",
        names.join(", ")
    );
    let seconds = begun.elapsed().as_secs_f64();
    let mut report = head(job, seconds);
    merge(
        &mut report,
        json!({
            "beats_naive": false,
            "verdict": verdict,
            "leak_check": { "passed": false, "threshold": LEAK_CORRELATION, "features": leaks },
            "folds": [],
        }),
    );
    let widths = Widths::default();
    Trained { model: None, stored: Vec::new(), widths, report, seconds, skill: None, verdict }
}

/// What names the model and what it was made of.
fn head(job: &Job, seconds: f64) -> Value {
    let config = &job.config;
    let mut offsets: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for row in job.rows.values() {
        let range = offsets.entry(row.partition).or_insert((row.from_offset, row.offset));
        *range = (range.0.min(row.from_offset), range.1.max(row.offset));
        for value in row.features.iter().chain([&row.target]) {
            for byte in value.to_bits().to_le_bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
    }
    let offsets: BTreeMap<String, Value> = offsets
        .into_iter()
        .map(|(partition, (first, last))| (partition.to_string(), json!([first, last])))
        .collect();
    json!({
        "model": config.name,
        "version": job.version,
        "engine": engine::name(config.engine),
        "trained_at": Timestamp::now().to_string(),
        "target": "return",
        "horizon": config.horizon,
        "every": config.every,
        "features": FEATURES,
        "train_rows": job.rows.len(),
        "from": job.rows.keys().next().map(|(start_ms, _)| *start_ms),
        "to": job.rows.keys().next_back().map(|(start_ms, _)| *start_ms),
        "seed": config.train.seed,
        "parameters": config.train,
        "training_seconds": seconds,
        "naive": "the last value: a predicted return of 0",
        "fingerprint": {
            "topic": config.input,
            "offsets": offsets,
            "rows": format!("fnv1a:{hash:016x}"),
        },
        "versions": {
            "odradek": env!("CARGO_PKG_VERSION"),
            "forust-ml": "0.8.0",
            "ta-lib": "0.8.3",
        },
    })
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

fn importances(model: &dyn Regressor) -> BTreeMap<&'static str, f64> {
    FEATURES.into_iter().zip(model.importances()).collect()
}

/// The mean time of one live prediction.
fn prediction_micros(model: &dyn Regressor, rows: &[Features]) -> f64 {
    const TIMED: usize = 200;
    let begun = Instant::now();
    let timed = rows.iter().rev().take(TIMED);
    let count = timed.clone().count().max(1);
    timed.for_each(|row| {
        std::hint::black_box(model.predict(std::slice::from_ref(row)));
    });
    begun.elapsed().as_secs_f64() * 1e6 / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(target_of: impl Fn(&Features, f64) -> f64) -> Job {
        let text = "name='m'\ninput='b'\npredictions='p'\nscores='s'\nreport='r'";
        let config: ModelConfig = toml::from_str(text).unwrap();
        let mut state = 1_u64;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
        };
        let rows = (0..900_i64)
            .map(|index| {
                let features: Features = std::array::from_fn(|_| random() * 1e-3);
                let target = target_of(&features, random() * 1e-4);
                let row = TrainRow {
                    partition: 0,
                    offset: index,
                    from_offset: index - 29,
                    close: 100.0,
                    features,
                    target,
                };
                ((index * 60_000, "ES".to_owned()), row)
            })
            .collect();
        Job { config, version: 1, rows }
    }

    #[test]
    fn a_signal_is_found_and_said_to_beat_the_last_value() {
        let trained = train(&job(|features, noise| features[1] * 0.5 + noise)).unwrap();
        assert_eq!(trained.report["beats_naive"], json!(true), "{}", trained.verdict);
        assert!(trained.skill.unwrap() > 0.5);
        let importance = trained.report["importances"]["return_2"].as_f64().unwrap();
        assert!(importance > 0.9, "{importance}");
        let folds = trained.report["folds"].as_array().unwrap();
        assert_eq!(folds.len(), 5);
        for fold in folds {
            // One whole bar lies between training and test.
            let gap = fold["test_from"].as_i64().unwrap() - fold["train_to"].as_i64().unwrap();
            assert_eq!(gap, 2 * 60_000);
        }
        for (field, share) in [("coverage_80", 0.8), ("coverage_95", 0.95)] {
            let covered = trained.report[field].as_f64().unwrap();
            assert!((covered - share).abs() < 0.06, "{field}: {covered}");
        }
    }

    #[test]
    fn noise_is_not_said_to_beat_the_last_value() {
        let trained = train(&job(|_, noise| noise)).unwrap();
        assert_eq!(trained.report["beats_naive"], json!(false), "{}", trained.verdict);
        assert!(trained.skill.unwrap() < 0.01);
    }

    #[test]
    fn a_feature_that_is_the_target_is_refused() {
        let trained = train(&job(|features, noise| features[7] * 2.0 + noise * 1e-6)).unwrap();
        assert!(trained.model.is_none());
        assert_eq!(trained.report["leak_check"]["passed"], json!(false));
        assert_eq!(trained.report["leak_check"]["features"][0]["feature"], json!("aroon_osc"));
        assert!(trained.verdict.starts_with("REFUSED"));
    }

    #[test]
    fn a_stored_model_predicts_the_same_bits_and_training_is_repeatable() {
        let job = job(|features, noise| features[1] * features[2] * 1e3 + noise);
        let (first, second) = (train(&job).unwrap(), train(&job).unwrap());
        let rows: Vec<Features> = job.rows.values().map(|row| row.features).collect();
        let loaded = engine::load(job.config.engine, &first.stored).unwrap();
        let bits = |model: &dyn Regressor| -> Vec<u64> {
            model.predict(&rows).iter().map(|v| v.to_bits()).collect()
        };
        let expected = bits(&*first.model.unwrap());
        assert!(expected.iter().collect::<std::collections::BTreeSet<_>>().len() > 10);
        assert_eq!(bits(&*loaded), expected);
        assert_eq!(bits(&*second.model.unwrap()), expected);
    }
}
