//! SASL/PLAIN (RFC 4616), server side, over the `sasl` crate.

use sasl::common::Identity;
use sasl::secret;
use sasl::server::mechanisms::Plain;
use sasl::server::{Mechanism as _, MechanismError, Response, Validator, ValidatorError};

use super::users::Users;

struct Check<'a>(&'a Users);

impl Validator<secret::Plain> for Check<'_> {
    fn validate(
        &self,
        identity: &Identity,
        password: &secret::Plain,
    ) -> Result<(), ValidatorError> {
        match identity {
            Identity::Username(name) if self.0.check_plain(name, &password.0) => Ok(()),
            _ => Err(ValidatorError::AuthenticationFailed),
        }
    }
}

/// Why a PLAIN message was not a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainError {
    /// Not `[authzid] NUL user NUL password`, or with an empty part.
    Malformed,
    /// To act as somebody else is not offered.
    OtherIdentity,
    WrongPassword,
}

/// Whether this is a message of a user whose password logged in before.
pub fn is_remembered(users: &Users, message: &[u8]) -> bool {
    let text = std::str::from_utf8(message).ok();
    let Some((name, password)) = text.and_then(|text| text.strip_prefix('\0')?.split_once('\0'))
    else {
        return false;
    };
    !password.is_empty() && !password.contains('\0') && users.remembers(name, password)
}

/// The user who logged in. The three parts are counted here, because the crate takes what follows
/// a third NUL for nothing, and Kafka refuses it.
pub fn check(users: &Users, message: &[u8]) -> Result<String, PlainError> {
    let parts: Vec<&[u8]> = message.split(|byte| *byte == 0).collect();
    let [acting_as, user, password] = parts[..] else {
        return Err(PlainError::Malformed);
    };
    if user.is_empty() || password.is_empty() {
        return Err(PlainError::Malformed);
    }
    if !acting_as.is_empty() && acting_as != user {
        return Err(PlainError::OtherIdentity);
    }
    match Plain::new(Check(users)).respond(message) {
        Ok(Response::Success(Identity::Username(name), _)) => Ok(name),
        Err(MechanismError::ValidatorError(_)) => Err(PlainError::WrongPassword),
        _ => Err(PlainError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_parts_are_checked_as_kafka_checks_them() {
        let users = Users::default();
        users.set("tim", "tanstaaftanstaaf");
        let cases: &[(&[u8], Result<&str, PlainError>)] = &[
            // RFC 4616, section 4.
            (b"\0tim\0tanstaaftanstaaf", Ok("tim")),
            (b"tim\0tim\0tanstaaftanstaaf", Ok("tim")),
            (b"Ursel\0tim\0tanstaaftanstaaf", Err(PlainError::OtherIdentity)),
            (b"\0tim\0wrong", Err(PlainError::WrongPassword)),
            (b"\0nobody\0tanstaaftanstaaf", Err(PlainError::WrongPassword)),
            (b"\0tim\0tanstaaftanstaaf\0", Err(PlainError::Malformed)),
            (b"\0tim\0", Err(PlainError::Malformed)),
            (b"\0\0x", Err(PlainError::Malformed)),
            (b"tim\0tanstaaftanstaaf", Err(PlainError::Malformed)),
            (b"\0\xff\xfe\0x", Err(PlainError::Malformed)),
            (b"", Err(PlainError::Malformed)),
        ];
        for (message, expected) in cases {
            let found = check(&users, message);
            assert_eq!(found.as_deref(), expected.as_ref().map(|name| *name), "{message:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_message_makes_it_panic(message: Vec<u8>) {
            let _ = check(&Users::default(), &message);
        }
    }
}
