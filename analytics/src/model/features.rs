//! What a model may see: closed bars up to and including the one it predicts from.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::indicator::series::{Definition, Series};

pub(crate) const FEATURES: [&str; 10] = [
    "return_1",
    "return_2",
    "return_3",
    "return_4",
    "return_5",
    "bollinger_position",
    "bollinger_width",
    "aroon_osc",
    "volume_change",
    "minute_of_day",
];

/// In the order of [`FEATURES`]. NaN is "missing", which the engine has a branch for.
pub(crate) type Features = [f64; FEATURES.len()];

/// The features at the newest bar; `None` before the indicators' lookback is filled.
///
/// `return_k` is the return of the bar k - 1 before the newest. Bars are taken as they follow
/// each other, whatever the time between them.
pub(crate) fn features(
    series: &Series,
    definition: &Definition,
    zone: &TimeZone,
) -> Option<Features> {
    let bars = series.bars();
    let last = bars.last()?;
    let point = series.point(last.start_ms, definition)?;
    let (bands, aroon_osc) = (point.bollinger?, point.aroon_osc?);
    let lagged = |lag: usize| {
        let now = bars.len().checked_sub(lag)?;
        Some(bars.get(now)?.close / bars.get(now.checked_sub(1)?)?.close - 1.0)
    };
    let width = bands.upper - bands.lower;
    let before = bars.len().checked_sub(2).and_then(|index| bars.get(index));
    let volume_change = match (before.and_then(|bar| bar.volume), last.volume) {
        (Some(before), Some(now)) => ((now + 1.0) / (before + 1.0)).ln(),
        _ => f64::NAN,
    };
    let local = zone.to_datetime(Timestamp::from_millisecond(last.start_ms).ok()?);
    Some([
        lagged(1)?,
        lagged(2)?,
        lagged(3)?,
        lagged(4)?,
        lagged(5)?,
        if width > 0.0 { (last.close - bands.lower) / width } else { f64::NAN },
        width / bands.middle,
        aroon_osc,
        volume_change,
        f64::from(local.hour()) * 60.0 + f64::from(local.minute()),
    ])
}
