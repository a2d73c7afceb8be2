//! Figures as a person reads them.

/// With as many digits as are worth reading.
pub fn time(ms: f64) -> String {
    match ms {
        ms if ms < 0.1 => format!("{:.0} µs", ms * 1_000.0),
        ms if ms < 1.0 => format!("{ms:.2} ms"),
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 10_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1_000.0),
    }
}

/// Three digits that count, and commas.
pub fn number(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.1}");
    }
    let step = 10_f64.powi(((value.log10().floor() as i32) - 2).max(0));
    let mut digits = format!("{:.0}", (value / step).round() * step);
    let mut at = digits.len();
    while at > 3 {
        at -= 3;
        digits.insert(at, ',');
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_are_worth_reading() {
        for (value, said) in [
            (1.04, "1.0"),
            (17.4, "17"),
            (119.05, "119"),
            (1_234.0, "1,230"),
            (987_654.0, "988,000"),
        ] {
            assert_eq!(number(value), said);
        }
        for (ms, said) in [
            (0.0312, "31 µs"),
            (0.5, "0.50 ms"),
            (8.04, "8.0 ms"),
            (120.4, "120 ms"),
            (12_000.0, "12.0 s"),
        ] {
            assert_eq!(time(ms), said);
        }
    }
}
