//! Topic filters, and the levels of a topic as fields.

use rumqttc::mqttbytes;

use crate::limits::MQTT_TOPIC_BYTES_MAX;

/// A filter as in MQTT: `+` stands for one level, `#` at the end for all that follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicFilter(String);

impl TopicFilter {
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("$share/") {
            return Err(format!("{text:?} is shared with other clients, which is not supported"));
        }
        if text.len() > MQTT_TOPIC_BYTES_MAX {
            return Err(format!("a filter of {} bytes is too long", text.len()));
        }
        if text.contains('\0') || !mqttbytes::valid_filter(text) {
            return Err(format!("{text:?} is no topic filter"));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A topic that begins with `$` is the server's own: only a filter that spells its first level
    /// out means it. The library's function says that none does.
    pub fn matches(&self, topic: &str) -> bool {
        match (topic.strip_prefix('$'), self.0.strip_prefix('$')) {
            (Some(topic), Some(filter)) => mqttbytes::matches(topic, filter),
            (None, None) => mqttbytes::matches(topic, &self.0),
            _ => false,
        }
    }
}

/// `home/{room}/{sensor...}`: which levels of a topic become which fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicFields {
    before: Vec<Level>,
    /// The field that takes one level or several, and what follows it.
    several: Option<(String, Vec<Level>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Text(String),
    /// `+`: any, and no field.
    Any,
    Field(String),
}

impl TopicFields {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut fields = Self { before: Vec::new(), several: None };
        for level in text.split('/') {
            let name = level.strip_prefix('{').and_then(|level| level.strip_suffix('}'));
            let level = match name {
                Some(name) => match name.strip_suffix("...") {
                    Some(name) if fields.several.is_none() => {
                        fields.several = Some((name_of(text, name)?, Vec::new()));
                        continue;
                    }
                    Some(_) => return Err(format!("{text:?} has two fields of several levels")),
                    None => Level::Field(name_of(text, name)?),
                },
                None if level == "+" => Level::Any,
                None if level.contains(['{', '}', '+', '#']) => {
                    return Err(format!("{text:?} has {level:?}, which is no whole level"));
                }
                None => Level::Text(level.to_owned()),
            };
            match &mut fields.several {
                Some((_, after)) => after.push(level),
                None => fields.before.push(level),
            }
        }
        let names: Vec<&str> = fields.names().collect();
        if names.is_empty() {
            return Err(format!("{text:?} names no field"));
        }
        if (1..names.len()).any(|index| names[..index].contains(&names[index])) {
            return Err(format!("{text:?} names a field twice"));
        }
        Ok(fields)
    }

    /// In the order of the levels.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let (several, after) = match &self.several {
            Some((name, after)) => (Some(name.as_str()), after.as_slice()),
            None => (None, [].as_slice()),
        };
        let name = Level::name;
        self.before.iter().filter_map(name).chain(several).chain(after.iter().filter_map(name))
    }

    /// Names and values, in the order of the levels; `None` if the topic does not fit.
    pub fn read<'a>(&'a self, topic: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
        let mut fields = Vec::new();
        let mut rest = Some(topic);
        for level in &self.before {
            let (head, tail) = first_level(rest?);
            fields.extend(level.read(head)?);
            rest = tail;
        }
        let Some((name, after)) = &self.several else {
            return rest.is_none().then_some(fields);
        };
        let rest = rest?;
        // What follows is read from the end, so that the field takes whatever lies between.
        let levels: Vec<&str> = rest.split('/').collect();
        let middle = levels.len().checked_sub(after.len()).filter(|count| *count > 0)?;
        let tail_bytes: usize = levels[middle..].iter().map(|level| level.len() + 1).sum();
        fields.push((name.as_str(), &rest[..rest.len() - tail_bytes]));
        for (level, text) in after.iter().zip(&levels[middle..]) {
            fields.extend(level.read(text)?);
        }
        Some(fields)
    }
}

impl Level {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Field(name) => Some(name),
            Self::Text(_) | Self::Any => None,
        }
    }

    /// `None` if it does not fit; else at most one field.
    fn read<'a>(&'a self, text: &'a str) -> Option<Option<(&'a str, &'a str)>> {
        match self {
            Self::Text(wanted) => (wanted == text).then_some(None),
            Self::Any => Some(None),
            Self::Field(name) => Some(Some((name, text))),
        }
    }
}

fn first_level(topic: &str) -> (&str, Option<&str>) {
    match topic.split_once('/') {
        Some((head, tail)) => (head, Some(tail)),
        None => (topic, None),
    }
}

/// Dots would make it a path, of which nothing could be read.
fn name_of(text: &str, name: &str) -> Result<String, String> {
    if name.is_empty() || name.contains(['{', '}', '.', ':']) {
        return Err(format!("{text:?} has a field whose name is {name:?}"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From sections 4.7.1 and 4.7.2 of the standard (MQTT 3.1.1).
    #[test]
    fn filters_match_as_the_standard_says() {
        let cases = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("#", "sport", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/uptime", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/uptime", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("ACCOUNTS", "Accounts", false),
        ];
        for (filter, topic, fits) in cases {
            assert_eq!(
                TopicFilter::parse(filter).unwrap().matches(topic),
                fits,
                "{filter} {topic}"
            );
        }
        for text in ["", "sport/tennis#", "sport/tennis/#/ranking", "sport+", "a\0b"] {
            assert!(TopicFilter::parse(text).is_err(), "{text:?}");
        }
        assert!(TopicFilter::parse("$share/a/b").unwrap_err().contains("shared"));
        assert!(TopicFilter::parse(&"a".repeat(1025)).is_err());
    }

    #[test]
    fn levels_of_a_topic_become_fields() {
        // Fields as `name=value`, or nothing where the topic does not fit.
        let cases = [
            ("{base}/{name}", "z/lamp", "base=z name=lamp"),
            ("{base}/{name}", "z/lamp/set", ""),
            ("{base}/{name}", "z", ""),
            ("home/{room}/+/t", "home/bath/7/t", "room=bath"),
            ("home/{room}/+/t", "home/bath/7/h", ""),
            ("z/{name...}", "z/first floor/lamp", "name=first floor/lamp"),
            ("z/{name...}", "z", ""),
            ("z/{name...}/state", "z/a/b/state", "name=a/b"),
            ("z/{name...}/state", "z/state", ""),
            ("{all...}", "/a/", "all=/a/"),
        ];
        for (pattern, topic, wanted) in cases {
            let fields = TopicFields::parse(pattern).unwrap();
            let read = fields.read(topic).unwrap_or_default();
            let read: Vec<String> =
                read.iter().map(|(name, text)| format!("{name}={text}")).collect();
            assert_eq!(read.join(" "), wanted, "{pattern} {topic}");
        }
        let order = TopicFields::parse("{a}/{b...}/{c}/d").unwrap();
        assert_eq!(order.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        let read = order.read("1/2/3/4/d").unwrap();
        assert_eq!(read, [("a", "1"), ("b", "2/3"), ("c", "4")]);
    }

    #[test]
    fn a_pattern_that_means_nothing_is_refused() {
        for text in ["", "a/b", "{}", "{a.b}", "{a}/{a}", "x{a}", "{a...}/{b...}", "a/#", "{a"] {
            assert!(TopicFields::parse(text).is_err(), "{text:?}");
        }
    }
}
