//! Split conformal intervals: half-widths that held for the wanted share of errors not trained on.

/// The half-width that covers `share` of future absolute errors, from errors on data the model
/// has not seen: the ⌈(m + 1)·share⌉-th smallest. `None` if there are too few to say.
pub(crate) fn half_width(errors: &[f64], share: f64) -> Option<f64> {
    let mut sizes: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    // Between 1 and m + 1, so it fits.
    let rank = ((sizes.len() as f64 + 1.0) * share).ceil() as usize;
    sizes.get(rank.checked_sub(1)?).copied()
}

/// The share of errors within the half-width.
pub(crate) fn coverage(errors: &[f64], half_width: f64) -> f64 {
    let inside = errors.iter().filter(|error| error.abs() <= half_width).count();
    inside as f64 / errors.len() as f64
}
