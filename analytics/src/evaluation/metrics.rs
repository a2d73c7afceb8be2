//! Figures of predictions of a return, against the naive prediction "the last value" (return 0).

use serde::Serialize;

use super::student::two_sided_p;

/// The 97.5 % quantile of the normal distribution.
const Z_95: f64 = 1.959_963_984_540_054;

/// Figures of one fold, or of all pooled. Errors are predicted minus actual.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub n: usize,
    pub rmse: f64,
    pub mae: f64,
    pub median_ae: f64,
    pub bias: f64,
    pub naive_rmse: f64,
    pub naive_mae: f64,
    /// 1 - RMSE / naive RMSE: above 0 is better than the last value.
    pub skill: Option<f64>,
    /// MAE / the naive MAE in training.
    pub mase: Option<f64>,
    pub r2_vs_naive: Option<f64>,
    /// The share of moves whose sign was right; moves of exactly 0 are left out and counted.
    pub direction_accuracy: Option<f64>,
    pub direction_interval: Option<[f64; 2]>,
    pub direction_n: usize,
    pub zero_moves: usize,
    /// What always saying the commoner sign would have got right.
    pub majority_rate: Option<f64>,
    /// Two-sided, squared errors, with Harvey, Leybourne and Newbold's correction.
    pub diebold_mariano: Option<DieboldMariano>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct DieboldMariano {
    /// Positive when the model's errors are the smaller ones.
    pub statistic: f64,
    pub p: f64,
}

/// `None` without a sample. `train_mae` is the mean absolute target in training.
pub(crate) fn figures(
    actual: &[f64],
    predicted: &[f64],
    train_mae: Option<f64>,
    horizon: usize,
) -> Option<Figures> {
    if actual.is_empty() || actual.len() != predicted.len() {
        return None;
    }
    let errors: Vec<f64> = predicted.iter().zip(actual).map(|(p, a)| p - a).collect();
    let sizes: Vec<f64> = errors.iter().map(|e| e.abs()).collect();
    let (rmse, naive_rmse) = (root_mean_square(&errors), root_mean_square(actual));
    let mae = mean(&sizes);
    let sum_squares = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>();
    let moved: Vec<(f64, f64)> =
        actual.iter().copied().zip(predicted.iter().copied()).filter(|(a, _)| *a != 0.0).collect();
    let hits = moved.iter().filter(|(a, p)| (*a > 0.0 && *p > 0.0) || (*a < 0.0 && *p < 0.0));
    let hits = hits.count();
    let ups = moved.iter().filter(|(a, _)| *a > 0.0).count();
    let share = |count: usize| (!moved.is_empty()).then(|| count as f64 / moved.len() as f64);
    Some(Figures {
        n: actual.len(),
        rmse,
        mae,
        median_ae: median(&sizes),
        bias: mean(&errors),
        naive_rmse,
        naive_mae: mean(&actual.iter().map(|a| a.abs()).collect::<Vec<_>>()),
        skill: (naive_rmse > 0.0).then(|| 1.0 - rmse / naive_rmse),
        mase: train_mae.filter(|scale| *scale > 0.0).map(|scale| mae / scale),
        r2_vs_naive: (naive_rmse > 0.0).then(|| 1.0 - sum_squares(&errors) / sum_squares(actual)),
        direction_accuracy: share(hits),
        direction_interval: wilson(hits, moved.len()),
        direction_n: moved.len(),
        zero_moves: actual.len() - moved.len(),
        majority_rate: share(ups.max(moved.len() - ups)),
        diebold_mariano: diebold_mariano(actual, &errors, horizon),
    })
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

pub(crate) fn root_mean_square(values: &[f64]) -> f64 {
    (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// Wilson's 95 % interval of a share.
pub(crate) fn wilson(hits: usize, n: usize) -> Option<[f64; 2]> {
    if n == 0 {
        return None;
    }
    let (hits, n) = (hits as f64, n as f64);
    let share = hits / n;
    let square = Z_95 * Z_95;
    let centre = (share + square / (2.0 * n)) / (1.0 + square / n);
    let half =
        Z_95 / (1.0 + square / n) * (share * (1.0 - share) / n + square / (4.0 * n * n)).sqrt();
    Some([centre - half, centre + half])
}

/// `None` when the losses never differ, or the variance estimate is not positive (it need not be
/// for horizons above 1).
fn diebold_mariano(actual: &[f64], errors: &[f64], horizon: usize) -> Option<DieboldMariano> {
    let losses: Vec<f64> = actual.iter().zip(errors).map(|(a, e)| a * a - e * e).collect();
    let (n, h) = (losses.len() as f64, horizon as f64);
    let average = mean(&losses);
    let centred: Vec<f64> = losses.iter().map(|d| d - average).collect();
    let covariance =
        |lag: usize| centred.iter().skip(lag).zip(&centred).map(|(a, b)| a * b).sum::<f64>() / n;
    let variance = covariance(0) + 2.0 * (1..horizon).map(covariance).sum::<f64>();
    if losses.len() <= horizon || variance <= 0.0 {
        return None;
    }
    let correction = ((n + 1.0 - 2.0 * h + h * (h - 1.0) / n) / n).sqrt();
    let statistic = average / (variance / n).sqrt() * correction;
    Some(DieboldMariano { statistic, p: two_sided_p(statistic, n - 1.0) })
}

/// Pearson's correlation over the pairs in which both are numbers; `None` if either never varies.
pub(crate) fn correlation(xs: &[f64], ys: &[f64]) -> Option<f64> {
    let pairs: Vec<(f64, f64)> =
        xs.iter().copied().zip(ys.iter().copied()).filter(|(x, y)| (x + y).is_finite()).collect();
    let n = pairs.len() as f64;
    let mean_x = pairs.iter().map(|p| p.0).sum::<f64>() / n;
    let mean_y = pairs.iter().map(|p| p.1).sum::<f64>() / n;
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        xx += (x - mean_x) * (x - mean_x);
        yy += (y - mean_y) * (y - mean_y);
        xy += (x - mean_x) * (y - mean_y);
    }
    let spread = (xx * yy).sqrt();
    (spread > 0.0).then(|| xy / spread)
}
