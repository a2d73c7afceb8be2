//! Honest evaluation: splits that never look ahead, and figures against "the last value".
//!
//! Definitions are those of scikit-learn and scipy (see `fixtures/make.py`), in f64.

pub(crate) mod conformal;
pub(crate) mod metrics;
pub(crate) mod split;
mod student;

#[cfg(test)]
mod tests;
