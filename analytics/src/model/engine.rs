//! The learners behind one trait, so that the rest does not know which it has.

use std::sync::Arc;

use forust_ml::data::Matrix;
use forust_ml::gradientbooster::{GradientBooster, ImportanceMethod};
use forust_ml::objective::ObjectiveType;
use serde::{Deserialize, Serialize};

use super::features::{FEATURES, Features};
use crate::config::{Engine, TrainConfig};

/// Rows a leaf must have at least: squared loss has a hessian of 1 a row.
const LEAF_ROWS_MIN: f32 = 20.0;
/// A stored model that unpacks to more than this was not written by us.
const MODEL_BYTES_MAX: usize = 64 << 20;
const ZSTD_LEVEL: i32 = 3;

/// A trained model of a return.
pub(crate) trait Regressor: Send + Sync {
    fn predict(&self, rows: &[Features]) -> Vec<f64>;

    /// By feature, adding up to 1 if any split was made.
    fn importances(&self) -> Vec<f64>;

    /// What [`load`] takes; a model loaded from it predicts the same bits.
    fn store(&self) -> Result<Vec<u8>, String>;
}

/// Trains on rows in the order of time. The same rows and configuration give the same model.
pub(crate) fn fit(
    engine: Engine,
    config: &TrainConfig,
    rows: &[Features],
    targets: &[f64],
) -> Result<Arc<dyn Regressor>, String> {
    match engine {
        Engine::Forust => Ok(Arc::new(Boosted::fit(config, rows, targets)?)),
    }
}

pub(crate) fn load(engine: Engine, bytes: &[u8]) -> Result<Arc<dyn Regressor>, String> {
    match engine {
        Engine::Forust => Ok(Arc::new(Boosted::load(bytes)?)),
    }
}

pub(crate) fn name(engine: Engine) -> &'static str {
    match engine {
        Engine::Forust => "forust-ml 0.8.0",
    }
}

/// Gradient boosting. Targets are divided by their size in training, because the booster works
/// in 32-bit gradients and one-minute returns are about 1e-4.
struct Boosted {
    scale: f64,
    booster: GradientBooster,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    features: Vec<String>,
    scale: f64,
    booster: String,
}

impl Boosted {
    fn fit(config: &TrainConfig, rows: &[Features], targets: &[f64]) -> Result<Self, String> {
        let scale = crate::evaluation::metrics::root_mean_square(targets);
        let scale = if scale > 0.0 { scale } else { 1.0 };
        let scaled: Vec<f64> = targets.iter().map(|target| target / scale).collect();
        let mut booster = GradientBooster::default()
            .set_objective_type(ObjectiveType::SquaredLoss)
            .set_iterations(config.trees)
            .set_max_depth(config.depth)
            .set_learning_rate(config.learning_rate as f32)
            .set_min_leaf_weight(LEAF_ROWS_MIN)
            .set_seed(config.seed)
            // One thread: the broker beside it needs the others.
            .set_parallel(false);
        let columns = column_major(rows);
        let matrix = Matrix::new(&columns, rows.len(), FEATURES.len());
        booster.fit_unweighted(&matrix, &scaled, None).map_err(|e| e.to_string())?;
        Ok(Self { scale, booster })
    }

    fn load(bytes: &[u8]) -> Result<Self, String> {
        let text = zstd::bulk::decompress(bytes, MODEL_BYTES_MAX).map_err(|e| e.to_string())?;
        let stored: Stored = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
        if stored.features != FEATURES {
            return Err("the stored model was trained on other features".to_owned());
        }
        let booster = GradientBooster::from_json(&stored.booster).map_err(|e| e.to_string())?;
        Ok(Self { scale: stored.scale, booster })
    }
}

impl Regressor for Boosted {
    fn predict(&self, rows: &[Features]) -> Vec<f64> {
        let columns = column_major(rows);
        let matrix = Matrix::new(&columns, rows.len(), FEATURES.len());
        let scaled = self.booster.predict(&matrix, false);
        scaled.into_iter().map(|value| value * self.scale).collect()
    }

    fn importances(&self) -> Vec<f64> {
        let gains = self.booster.calculate_feature_importance(ImportanceMethod::TotalGain, true);
        (0..FEATURES.len()).map(|index| gains.get(&index).copied().map_or(0.0, f64::from)).collect()
    }

    fn store(&self) -> Result<Vec<u8>, String> {
        let stored = Stored {
            features: FEATURES.map(str::to_owned).to_vec(),
            scale: self.scale,
            booster: self.booster.json_dump().map_err(|e| e.to_string())?,
        };
        let text = serde_json::to_vec(&stored).map_err(|e| e.to_string())?;
        zstd::bulk::compress(&text, ZSTD_LEVEL).map_err(|e| e.to_string())
    }
}

fn column_major(rows: &[Features]) -> Vec<f64> {
    (0..FEATURES.len()).flat_map(|column| rows.iter().map(move |row| row[column])).collect()
}
