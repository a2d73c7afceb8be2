//! Expected values: `fixtures/metrics.json`, made with scikit-learn and scipy (`fixtures/make.py`).

use serde_json::Value;

use super::metrics::{correlation, figures};
use super::split::{time_series_split, time_series_split_groups};
use super::*;

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../fixtures/metrics.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn assert_close(what: &str, ours: f64, theirs: &Value, tolerance: f64) {
    let theirs = theirs.as_f64().unwrap();
    let error = (ours - theirs).abs() / theirs.abs().max(f64::MIN_POSITIVE);
    assert!(error <= tolerance, "{what}: {ours} and {theirs}");
}

#[test]
fn figures_are_those_of_scikit_learn_and_scipy() {
    let expected = fixture();
    let (actual, predicted) = (numbers(&expected["actual"]), numbers(&expected["predicted"]));
    for (horizon, p) in [(1, "1"), (3, "3")] {
        let ours = figures(&actual, &predicted, Some(2e-4), horizon).unwrap();
        let table = [
            ("rmse", ours.rmse),
            ("mae", ours.mae),
            ("median_ae", ours.median_ae),
            ("bias", ours.bias),
            ("naive_rmse", ours.naive_rmse),
            ("naive_mae", ours.naive_mae),
            ("skill", ours.skill.unwrap()),
            ("r2_vs_naive", ours.r2_vs_naive.unwrap()),
        ];
        for (name, value) in table {
            assert_close(name, value, &expected[name], 1e-12);
        }
        assert_eq!(ours.direction_n as u64, expected["direction_n"].as_u64().unwrap());
        assert_eq!(ours.zero_moves + ours.direction_n, ours.n);
        let accuracy = expected["direction_hits"].as_f64().unwrap() / ours.direction_n as f64;
        assert_eq!(ours.direction_accuracy, Some(accuracy));
        for (side, value) in ours.direction_interval.unwrap().into_iter().enumerate() {
            assert_close("wilson", value, &expected["wilson"][side], 1e-12);
        }
        assert_eq!(ours.mase, Some(ours.mae / 2e-4));
        let test = ours.diebold_mariano.unwrap();
        assert_close(
            "statistic",
            test.statistic,
            &expected["diebold_mariano"][p]["statistic"],
            1e-11,
        );
        assert_close("p", test.p, &expected["diebold_mariano"][p]["p"], 1e-9);
    }
}

#[test]
fn students_t_tail_is_that_of_scipy() {
    for row in fixture()["student_t"].as_array().unwrap() {
        let row = numbers(row);
        let ours = student::two_sided_p(row[0], row[1]);
        assert!((ours - row[2]).abs() <= 1e-11 * row[2], "{row:?}: {ours}");
    }
}

#[test]
fn folds_are_those_of_time_series_split() {
    for case in fixture()["splits"].as_array().unwrap() {
        let size = |name: &str| usize::try_from(case[name].as_u64().unwrap()).unwrap();
        let splits = time_series_split(size("n"), size("folds"), size("gap")).unwrap();
        let ours: Vec<Vec<f64>> = splits
            .iter()
            .map(|s| [s.train.start, s.train.end, s.test.start, s.test.end].map(|v| v as f64))
            .map(|bounds| bounds.to_vec())
            .collect();
        let theirs: Vec<Vec<f64>> =
            case["ranges"].as_array().unwrap().iter().map(numbers).collect();
        assert_eq!(ours, theirs, "{}", case["n"]);
    }
    assert_eq!(time_series_split(4, 5, 0), None);
    assert_eq!(time_series_split(12, 5, 2), None);
}

#[test]
fn rows_of_one_time_are_never_on_two_sides() {
    // Two symbols at each time but the first and last.
    let times: Vec<i64> =
        (0..30_i64).flat_map(|t| vec![t; if t % 29 == 0 { 1 } else { 2 }]).collect();
    let splits = time_series_split_groups(&times, 4, 1).unwrap();
    for split in splits {
        let last_train = times[split.train.end - 1];
        let first_test = times[split.test.start];
        // One whole time is left out between them.
        assert_eq!(first_test - last_train, 2);
        assert!(times.get(split.test.end).is_none_or(|t| *t > times[split.test.end - 1]));
    }
}

#[test]
fn a_conformal_half_width_is_the_rank_that_covers_the_share() {
    let errors: Vec<f64> = (1..=99).map(f64::from).collect();
    assert_eq!(conformal::half_width(&errors, 0.8), Some(80.0));
    assert_eq!(conformal::half_width(&errors, 0.95), Some(95.0));
    assert_eq!(conformal::half_width(&errors[..10], 0.95), None);
    assert_eq!(conformal::coverage(&[1.0, -2.0, 3.0, -4.0], 3.0), 0.75);
}

#[test]
fn correlation_ignores_missing_values() {
    let xs = [1.0, 2.0, f64::NAN, 4.0];
    let ys = [2.0, 4.0, 9.0, 8.0];
    assert!((correlation(&xs, &ys).unwrap() - 1.0).abs() < 1e-15);
    assert_eq!(correlation(&[1.0, 1.0], &[1.0, 2.0]), None);
}
