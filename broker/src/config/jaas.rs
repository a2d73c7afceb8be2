//! Users from JAAS text: the value of `sasl.jaas.config`, or a `kafka_server_jaas.conf` file.
//!
//! Only what names users is taken: `user_<name>="<password>"` of a login module. The broker's own
//! `username`/`password` (its login to other brokers) means nothing here, and class names are not
//! looked at, so relocated ones (`kafkashaded.…`) do as well. Grammar: Java's
//! `javax.security.auth.login.Configuration` file, and Kafka's one-entry form of it.

use super::Secret;

/// What one JAAS text says.
#[derive(Debug, Default)]
pub struct Jaas {
    pub users: Vec<(String, Secret)>,
    /// A login module was there that names no users, only a login of its own.
    pub only_own_login: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Mark(char),
}

const FLAGS: [&str; 4] = ["required", "requisite", "sufficient", "optional"];

/// The value of a `…sasl.jaas.config` key: `Class required option="value" …;`, once or more.
pub fn parse_entry(text: &str) -> Result<Jaas, String> {
    let tokens = tokens(text)?;
    let mut jaas = Jaas::default();
    let mut rest = &tokens[..];
    while !rest.is_empty() {
        rest = module(rest, &mut jaas)?;
    }
    Ok(jaas)
}

/// A line that [`parse_entry`] reads as these users.
pub fn line(users: &[(String, Secret)]) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let options = users.iter().map(|(name, password)| {
        format!(" {}={}", quoted(&format!("user_{name}")), quoted(password.expose()))
    });
    format!("PlainLoginModule required{};", options.collect::<String>())
}

/// A JAAS file: `KafkaServer { … };` and other sections, of which only those for the server count
/// (`KafkaServer` and `<listener>.KafkaServer`).
pub fn parse_file(text: &str) -> Result<Jaas, String> {
    let tokens = tokens(text)?;
    let mut jaas = Jaas::default();
    let mut rest = &tokens[..];
    let mut found = false;
    while let Some((head, tail)) = rest.split_first() {
        let Token::Word(section) = head else {
            return Err(format!("a section's name is expected, not {}", shown(Some(head))));
        };
        rest = mark(tail, '{', section)?;
        let server = section == "KafkaServer" || section.ends_with(".KafkaServer");
        found |= server;
        let mut ignored = Jaas::default();
        while !rest.is_empty() && rest[0] != Token::Mark('}') {
            rest = module(rest, if server { &mut jaas } else { &mut ignored })?;
        }
        rest = mark(rest, '}', section)?;
        rest = mark(rest, ';', section)?;
    }
    if found { Ok(jaas) } else { Err("there is no section named KafkaServer".to_owned()) }
}

/// `Class flag option=value … ;`
fn module<'a>(tokens: &'a [Token], jaas: &mut Jaas) -> Result<&'a [Token], String> {
    let [Token::Word(_), Token::Word(flag), rest @ ..] = tokens else {
        return Err("a login module is written: class, then required, then options".to_owned());
    };
    if !FLAGS.iter().any(|known| flag.eq_ignore_ascii_case(known)) {
        // What stands where a class is expected may be the rest of a broken password.
        return Err("after the class the word `required` is expected".to_owned());
    }
    let (mut rest, mut users, mut own_login) = (rest, 0, false);
    loop {
        match rest {
            [Token::Mark(';'), tail @ ..] => {
                jaas.only_own_login |= own_login && users == 0;
                return Ok(tail);
            }
            [Token::Word(option), Token::Mark('='), Token::Word(value), tail @ ..] => {
                if let Some(name) = option.strip_prefix("user_") {
                    users += 1;
                    jaas.users.push((name.to_owned(), Secret::new(value)));
                }
                own_login |= option == "username";
                rest = tail;
            }
            // Neither is shown: either may be a piece of a password with a quotation mark in it.
            [Token::Word(_), ..] => {
                return Err(
                    "each option is written with an equals sign and a value; one is not (a \
                            quotation mark inside a password needs a backslash before it)"
                        .to_owned(),
                );
            }
            other => {
                return Err(format!("the semicolon at the end is missing{}", after(other.first())));
            }
        }
    }
}

fn mark<'a>(tokens: &'a [Token], expected: char, section: &str) -> Result<&'a [Token], String> {
    match tokens.split_first() {
        Some((Token::Mark(found), rest)) if *found == expected => Ok(rest),
        _ => Err(format!("section {section}: `{expected}` is missing")),
    }
}

fn shown(token: Option<&Token>) -> String {
    match token {
        Some(Token::Mark(c)) => format!("`{c}`"),
        Some(Token::Word(_)) => "a word".to_owned(),
        None => "the end".to_owned(),
    }
}

fn after(token: Option<&Token>) -> String {
    token.map_or(String::new(), |token| format!(" before {}", shown(Some(token))))
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '{' | '}' | ';' | '=' => tokens.push(Token::Mark(c)),
            '#' => skip_line(&mut chars),
            '/' if chars.peek() == Some(&'/') => skip_line(&mut chars),
            '/' if chars.peek() == Some(&'*') => skip_block(&mut chars),
            '"' | '\'' => tokens.push(Token::Word(quoted(c, &mut chars)?)),
            c => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| !ends_word(*c)) {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Ok(tokens)
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn ends_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, '{' | '}' | ';' | '=' | '"' | '\'')
}

fn skip_line(chars: &mut Chars<'_>) {
    for c in chars.by_ref() {
        if c == '\n' {
            return;
        }
    }
}

fn skip_block(chars: &mut Chars<'_>) {
    chars.next();
    let mut before = ' ';
    for c in chars.by_ref() {
        if before == '*' && c == '/' {
            return;
        }
        before = c;
    }
}

fn quoted(quote: char, chars: &mut Chars<'_>) -> Result<String, String> {
    let mut word = String::new();
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return Ok(word),
            '\\' => match chars.next() {
                Some('n') => word.push('\n'),
                Some('t') => word.push('\t'),
                Some('r') => word.push('\r'),
                Some(other) => word.push(other),
                None => break,
            },
            c => word.push(c),
        }
    }
    Err(format!("a closing {quote} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(jaas: &Jaas) -> Vec<(&str, &str)> {
        jaas.users.iter().map(|(name, password)| (name.as_str(), password.expose())).collect()
    }

    #[test]
    fn the_users_of_a_pasted_line_are_taken_whatever_the_class_is_called() {
        for class in ["org.apache.kafka.common.security.plain.PlainLoginModule", "kafkashaded.X"] {
            let line = format!(
                r#"{class} required username="admin" password="admin-secret" \
                user_admin="admin-secret" user_alice='a"l;i ce' user_bob=plain;"#
            );
            let jaas = parse_entry(&line.replace('\\', "")).unwrap();
            let expected = [("admin", "admin-secret"), ("alice", "a\"l;i ce"), ("bob", "plain")];
            assert_eq!(users(&jaas), expected);
            assert!(!jaas.only_own_login);
        }
    }

    /// The file of Kafka's documentation, section "Configuring Kafka Brokers" for SASL/PLAIN.
    #[test]
    fn the_jaas_file_of_kafkas_documentation_gives_its_users_and_not_zookeepers() {
        let text = r#"
            // for the brokers
            KafkaServer {
                org.apache.kafka.common.security.plain.PlainLoginModule required
                username="admin"
                password="admin-secret"
                user_admin="admin-secret"
                user_alice="alice-secret";
            };
            /* and for
               ZooKeeper */
            Client {
                org.apache.zookeeper.server.auth.DigestLoginModule required
                user_super="no" username="zk" password="zk";
            };"#;
        let jaas = parse_file(text).unwrap();
        assert_eq!(users(&jaas), [("admin", "admin-secret"), ("alice", "alice-secret")]);
    }

    #[test]
    fn a_line_with_only_the_brokers_own_login_is_recognised() {
        let jaas = parse_entry(r#"PlainLoginModule required username="a" password="b";"#).unwrap();
        assert!(jaas.users.is_empty() && jaas.only_own_login);
    }

    #[test]
    fn errors_say_what_is_missing_and_never_show_a_password() {
        let cases = [
            (r#"C required user_a="secret""#, "the semicolon at the end is missing"),
            (r#"C user_a="secret";"#, "the word `required` is expected"),
            (r#"C required user_a "secret";"#, "an equals sign and a value"),
            (r#"C required user_a="a"secret"b";"#, "needs a backslash"),
            (r#"C required user_a=a;secret b;"#, "the word `required` is expected"),
            (r#"C required user_a="secret;"#, "a closing \" is missing"),
        ];
        for (text, expected) in cases {
            let error = parse_entry(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(parse_file("Client { C required; };").unwrap_err().contains("KafkaServer"));
        assert!(parse_file("KafkaServer { C required; }").unwrap_err().contains("`;` is missing"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*|[ {};=\"'a/*\\\\\n]*") {
            let _ = parse_entry(&text);
            let _ = parse_file(&text);
        }
    }
}
