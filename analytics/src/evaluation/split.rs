//! Walk-forward splits: train on the past, leave a gap, test on what follows.

use std::ops::Range;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Split {
    pub train: Range<usize>,
    pub test: Range<usize>,
}

/// scikit-learn's `TimeSeriesSplit(n_splits=folds, gap=gap)` of `n` samples: an expanding window,
/// test folds of `n / (folds + 1)`. `None` if a training set would be empty.
pub(crate) fn time_series_split(n: usize, folds: usize, gap: usize) -> Option<Vec<Split>> {
    let test_size = n / (folds + 1);
    (0..folds)
        .map(|fold| {
            let start = n - (folds - fold) * test_size;
            let train_end = start.checked_sub(gap)?;
            (test_size > 0 && train_end > 0)
                .then_some(Split { train: 0..train_end, test: start..start + test_size })
        })
        .collect()
}

/// The same over rows of which several may share a time (sorted by it): times are split, so rows
/// of one time never fall on two sides, and the gap is one of times.
pub(crate) fn time_series_split_groups(
    times: &[i64],
    folds: usize,
    gap: usize,
) -> Option<Vec<Split>> {
    let mut starts: Vec<usize> = Vec::new();
    for (row, time) in times.iter().enumerate() {
        if row == 0 || times[row - 1] != *time {
            starts.push(row);
        }
    }
    let row_of = |group: usize| starts.get(group).copied().unwrap_or(times.len());
    let rows = |groups: Range<usize>| row_of(groups.start)..row_of(groups.end);
    let splits = time_series_split(starts.len(), folds, gap)?;
    Some(
        splits
            .into_iter()
            .map(|split| Split { train: rows(split.train), test: rows(split.test) })
            .collect(),
    )
}
