//! Text with fields in it: `"{carrier}"`, `"{year}-{month}-{day} {sched_dep_time:hhmm}"`.
//!
//! A field names a column, or a path into a JSON document (`data.symbol`). With `:hhmm` the value
//! is a time of day as one number, as timetables write it: `517` becomes `05:17`, and `2400`
//! becomes `24:00`, which `event_time` reads as the next midnight.

use std::borrow::Cow;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { name: String, hhmm: bool },
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            if before.contains('}') {
                return Err(format!("{text:?} has a closing brace without an opening one"));
            }
            let (field, tail) =
                after.split_once('}').ok_or_else(|| format!("{text:?} has an open brace"))?;
            let (name, hhmm) = match field.split_once(':') {
                None => (field, false),
                Some((name, "hhmm")) => (name, true),
                Some((_, other)) => {
                    return Err(format!("{text:?} asks for {other:?}; only hhmm is known"));
                }
            };
            if name.is_empty() {
                return Err(format!("{text:?} has a field without a name"));
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Field { name: name.to_owned(), hhmm });
            rest = tail;
        }
        if rest.contains('}') {
            return Err(format!("{text:?} has a closing brace without an opening one"));
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }

    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Field { name, .. } => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The error names the field that is missing or does not fit.
    pub fn render<'a>(
        &self,
        mut value: impl FnMut(&str) -> Option<Cow<'a, str>>,
    ) -> Result<String, String> {
        let mut text = String::with_capacity(32);
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Field { name, hhmm } => {
                    let value = value(name).ok_or_else(|| format!("there is no field {name:?}"))?;
                    if *hhmm {
                        push_hhmm(&mut text, &value)
                            .ok_or_else(|| format!("{name} is {value:?}, which is not hhmm"))?;
                    } else {
                        text.push_str(&value);
                    }
                }
            }
        }
        Ok(text)
    }
}

/// `517` → `05:17`. Leading zeros may be there or not; minutes must be below 60.
fn push_hhmm(text: &mut String, value: &str) -> Option<()> {
    let value = value.trim();
    if value.is_empty() || value.len() > 4 || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u16 = value.parse().ok()?;
    let (hour, minute) = (number / 100, number % 100);
    if minute >= 60 || hour > 24 || (hour == 24 && minute > 0) {
        return None;
    }
    text.push_str(&format!("{hour:02}:{minute:02}"));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(template: &str, value: &'static str) -> Result<String, String> {
        Template::parse(template)
            .unwrap()
            .render(|name| (name == "a").then_some(Cow::Borrowed(value)))
    }

    #[test]
    fn fields_are_replaced_and_text_stays() {
        assert_eq!(render("x-{a}/{a}", "1").unwrap(), "x-1/1");
        assert_eq!(render("plain", "1").unwrap(), "plain");
        assert!(render("{b}", "1").unwrap_err().contains("\"b\""));
        assert_eq!(
            Template::parse("{a}-{b.c}").unwrap().fields().collect::<Vec<_>>(),
            ["a", "b.c"]
        );
    }

    #[test]
    fn hhmm_takes_timetable_numbers() {
        for (value, text) in [
            ("517", "05:17"),
            ("5", "00:05"),
            ("0000", "00:00"),
            ("2359", "23:59"),
            ("2400", "24:00"),
        ] {
            assert_eq!(render("{a:hhmm}", value).unwrap(), text);
        }
        for value in ["", "NA", "1260", "2401", "2500", "-5", "12345", "5.0"] {
            assert!(render("{a:hhmm}", value).is_err(), "{value}");
        }
    }

    #[test]
    fn a_broken_template_is_refused() {
        for template in ["{a", "a}", "{}", "{a:date}", "{a} }"] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }
}
