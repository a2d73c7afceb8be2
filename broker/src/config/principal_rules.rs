//! `ssl.principal.mapping.rules` (KIP-371): a certificate's name becomes a user's name.

use regex::Regex;

/// In their order; the first whose pattern is the whole name counts. None: the name as it is.
#[derive(Debug, Clone, Default)]
pub struct PrincipalRules(Vec<Rule>);

#[derive(Debug, Clone)]
enum Rule {
    Default,
    Mapping { pattern: Regex, replacement: String, case: Case },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    AsIs,
    Lower,
    Upper,
}

impl PartialEq for PrincipalRules {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

impl Eq for PrincipalRules {}

impl PrincipalRules {
    /// `RULE:pattern/replacement/[L|U]` and `DEFAULT`, divided by commas; a slash within a part is
    /// written `\/`. `Err` is what is wrong, as a clause.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let after = match rest.strip_prefix("RULE:") {
                Some(rule) => {
                    let wrong = || format!("{rest:?} is not of the form RULE:pattern/replacement/");
                    let (pattern, rule) = part(rule).ok_or_else(wrong)?;
                    let (replacement, rule) = part(rule).ok_or_else(wrong)?;
                    let (case, after) = match rule.as_bytes().first() {
                        Some(b'L') => (Case::Lower, &rule[1..]),
                        Some(b'U') => (Case::Upper, &rule[1..]),
                        _ => (Case::AsIs, rule),
                    };
                    let pattern = Regex::new(&format!("^(?:{pattern})$"))
                        .map_err(|error| format!("the pattern {pattern:?}: {error}"))?;
                    rules.push(Rule::Mapping { pattern, replacement, case });
                    after
                }
                None => {
                    let after = rest.strip_prefix("DEFAULT");
                    rules.push(Rule::Default);
                    after.ok_or_else(|| format!("{rest:?} is neither RULE:… nor DEFAULT"))?
                }
            };
            let after = after.trim_start();
            rest = match after.strip_prefix(',') {
                Some(next) => next.trim_start(),
                None if after.is_empty() => after,
                None => return Err(format!("{after:?} follows a rule without a comma")),
            };
        }
        Ok(Self(rules))
    }

    /// The user of this certificate's name; `None`: no rule fits, and nobody may come in by it.
    pub fn apply(&self, name: &str) -> Option<String> {
        if self.0.is_empty() {
            return Some(name.to_owned());
        }
        self.0.iter().find_map(|rule| match rule {
            Rule::Default => Some(name.to_owned()),
            Rule::Mapping { pattern, replacement, case } => {
                let captures = pattern.captures(name)?;
                let user = filled(replacement, &captures);
                Some(match case {
                    Case::AsIs => user,
                    Case::Lower => user.to_lowercase(),
                    Case::Upper => user.to_uppercase(),
                })
            }
        })
    }
}

/// Up to a slash that no backslash stands before, and what comes after it.
fn part(text: &str) -> Option<(String, &str)> {
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            '/' if !escaped => return Some((text[..at].replace("\\/", "/"), &text[at + 1..])),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

/// `$1` to `$9` are groups; a group that is not there is left as it is written.
fn filled(replacement: &str, captures: &regex::Captures<'_>) -> String {
    let mut user = String::new();
    let mut letters = replacement.chars().peekable();
    while let Some(letter) = letters.next() {
        let group = (letter == '$').then(|| letters.peek()?.to_digit(10)).flatten();
        match group.map(|group| group as usize).filter(|group| *group < captures.len()) {
            Some(group) => {
                letters.next();
                user.push_str(captures.get(group).map_or("", |found| found.as_str()));
            }
            None => user.push(letter),
        }
    }
    user
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of Kafka's documentation ("Customizing SSL User Name") and of KIP-371.
    #[test]
    fn names_are_mapped_as_kafkas_documentation_says() {
        let rules = PrincipalRules::parse(
            r"RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/,
            RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L,
            RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/L,
            DEFAULT",
        )
        .unwrap();
        for (name, user) in [
            (
                "CN=serviceuser,OU=ServiceUsers,O=Unknown,L=Unknown,ST=Unknown,C=Unknown",
                "serviceuser",
            ),
            ("CN=adminUser,OU=Admin,O=Unknown,L=Unknown,ST=Unknown,C=Unknown", "adminuser@admin"),
            ("OU=x,cn=Some.Body", "some.body"),
            ("O=nobody", "O=nobody"),
        ] {
            assert_eq!(rules.apply(name).as_deref(), Some(user));
        }
        let strict = PrincipalRules::parse(r"RULE:^CN=a\/b,(.*)$/$1-$2/U").unwrap();
        assert_eq!(strict.apply("CN=a/b,o=c").as_deref(), Some("O=C-$2"));
        assert_eq!(strict.apply("CN=other"), None);
        assert_eq!(PrincipalRules::parse("").unwrap().apply("CN=a").as_deref(), Some("CN=a"));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in ["RULE:a/b", "RULE:(/x/", "RULE:a/b/ DEFAULT", "DEFAULTS", "rule"] {
            assert!(PrincipalRules::parse(text).is_err(), "{text}");
        }
    }
}
