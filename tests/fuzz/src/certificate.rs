//! Certificates: PEM texts of the configuration, and the subject of a client's certificate.
//!
//! First byte: which. Promises: a text that was taken holds what its armour says; a subject's name
//! is never longer than its bytes explain.

use odradek_broker::config::PrincipalRules;
use odradek_broker::fuzzing;

pub fn run(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else { return };
    match which % 3 {
        0 => {
            if let Ok(count) = fuzzing::certificates(rest) {
                let armour = b"-----BEGIN CERTIFICATE-----";
                let begins = rest.windows(armour.len()).filter(|window| window == armour).count();
                assert!((1..=begins).contains(&count), "{count} of {begins}");
            }
        }
        1 => {
            if let Err(why) = fuzzing::private_key(rest) {
                assert!(why.contains("the file"), "{why}");
            }
        }
        _ => {
            let Some(name) = fuzzing::distinguished_name(rest) else { return };
            // Bytes that have no letters are shown in hexadecimal, types by their numbers.
            assert!(!name.is_empty() && name.len() <= 16 * rest.len(), "{name:?}");
            let rules = PrincipalRules::parse("RULE:^CN=(.*?),.*$/$1/L,DEFAULT").expect("rules");
            assert!(rules.apply(&name).is_some());
        }
    }
}
