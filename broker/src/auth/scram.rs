//! SCRAM's server side (RFC 5802, RFC 7677) without channel binding.
//!
//! Two messages come, two go: client-first → server-first, client-final → server-final. An unknown
//! user is answered like a known one until the proof, which nothing can satisfy.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::RngCore;
use subtle::ConstantTimeEq;

use super::verifier::{Hash, Verifier};

/// A first message is kept, several times over, until the second comes. It holds a name of at most
/// 255 bytes, thrice as much where it is escaped, and a nonce.
const MESSAGE_BYTES_MAX: usize = 4_096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScramError {
    Malformed,
    /// The client insists on channel binding, or on acting as somebody else.
    NotOffered,
    WrongPassword,
}

/// What the first message of a client says.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientFirst {
    pub user: String,
    nonce: String,
    /// To be repeated in the final message.
    gs2_header: String,
    bare: String,
}

impl ClientFirst {
    pub fn parse(message: &[u8]) -> Result<Self, ScramError> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(ScramError::Malformed);
        }
        let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        let mut parts = text.splitn(3, ',');
        let (Some(binding), Some(acting_as), Some(bare)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(ScramError::Malformed);
        };
        if !matches!(binding, "n" | "y") {
            let wanted = binding.starts_with("p=");
            return Err(if wanted { ScramError::NotOffered } else { ScramError::Malformed });
        }
        let mut fields = bare.split(',');
        let user = fields.next().and_then(|field| field.strip_prefix("n="));
        let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
        let (Some(user), Some(nonce)) = (user, nonce) else {
            return Err(ScramError::Malformed);
        };
        // `tokenauth=true` asks for a login by delegation token, which does not exist here.
        if fields.any(|field| field == "tokenauth=true" || field.starts_with("m=")) {
            return Err(ScramError::NotOffered);
        }
        let user = decoded_name(user).filter(|user| !user.is_empty());
        let user = user.ok_or(ScramError::Malformed)?;
        if nonce.is_empty() || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ScramError::Malformed);
        }
        match acting_as.strip_prefix("a=") {
            None if acting_as.is_empty() => {}
            None => return Err(ScramError::Malformed),
            Some(other) if decoded_name(other).as_ref() == Some(&user) => {}
            Some(_) => return Err(ScramError::NotOffered),
        }
        Ok(Self {
            user,
            nonce: nonce.to_owned(),
            gs2_header: format!("{binding},{acting_as},"),
            bare: bare.to_owned(),
        })
    }
}

/// `=2C` is a comma, `=3D` an equals sign, and no other `=` may stand in a name.
fn decoded_name(text: &str) -> Option<String> {
    let without = text.replace("=2C", "").replace("=3D", "");
    (!without.contains('=')).then(|| text.replace("=2C", ",").replace("=3D", "="))
}

/// The exchange after the first message was answered.
#[derive(Debug)]
pub struct AwaitingProof {
    hash: Hash,
    first: ClientFirst,
    verifier: Verifier,
    /// There is such a user.
    known: bool,
    server_first: String,
    /// Client's and server's part together.
    nonce: String,
}

impl AwaitingProof {
    /// Answers the first message; the bytes go to the client.
    pub fn answer(
        hash: Hash,
        first: ClientFirst,
        (verifier, known): (Verifier, bool),
    ) -> (Self, Vec<u8>) {
        let mut random = [0; 18];
        rand::rng().fill_bytes(&mut random);
        Self::answer_with(hash, first, (verifier, known), &STANDARD.encode(random))
    }

    fn answer_with(
        hash: Hash,
        first: ClientFirst,
        (verifier, known): (Verifier, bool),
        server_nonce: &str,
    ) -> (Self, Vec<u8>) {
        let nonce = format!("{}{server_nonce}", first.nonce);
        let salt = STANDARD.encode(&verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let bytes = server_first.clone().into_bytes();
        (Self { hash, first, verifier, known, server_first, nonce }, bytes)
    }

    /// Whom the first message named.
    pub fn user(&self) -> &str {
        &self.first.user
    }

    /// Checks the final message: the user, and the server's own proof for the client.
    pub fn check(self, message: &[u8]) -> Result<(String, Vec<u8>), ScramError> {
        let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let mut fields = without_proof.split(',');
        let binding = fields.next().and_then(|field| field.strip_prefix("c="));
        let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
        let header = binding.and_then(|text| STANDARD.decode(text).ok());
        if header.as_deref() != Some(self.first.gs2_header.as_bytes())
            || !nonce.is_some_and(|nonce| self.is_our_nonce(nonce))
        {
            return Err(ScramError::Malformed);
        }
        let proof = STANDARD.decode(proof).map_err(|_| ScramError::Malformed)?;
        let Self { hash, verifier, first, .. } = &self;
        let signed = format!("{},{},{without_proof}", first.bare, self.server_first);
        let signature = hash.hmac(&verifier.stored_key, signed.as_bytes());
        if proof.len() != signature.len() {
            return Err(ScramError::Malformed);
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let matches = hash.digest(&client_key).ct_eq(&verifier.stored_key);
        if !bool::from(matches) || !self.known {
            return Err(ScramError::WrongPassword);
        }
        let proof = hash.hmac(&verifier.server_key, signed.as_bytes());
        let answer = format!("v={}", STANDARD.encode(proof));
        Ok((self.first.user, answer.into_bytes()))
    }

    /// What was sent, or that with the client's part once more before it: so librdkafka writes it
    /// before 2.6.1 (its pull request 4895), for example in the kcat of Debian 12. Kafka 3.9 takes
    /// that, 4.0 does not. Our part is in it either way, and the proof is over all of it.
    fn is_our_nonce(&self, nonce: &str) -> bool {
        nonce.strip_prefix(self.first.nonce.as_str()).is_some_and(|rest| rest == self.nonce)
            || nonce == self.nonce
    }
}

#[cfg(test)]
mod tests {
    use super::super::verifier::Look;
    use super::*;

    /// RFC 7677, section 3: user "user", password "pencil".
    #[test]
    fn the_exchange_of_rfc_7677_is_answered_byte_for_byte() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::derive_with(Hash::Sha256, "pencil", salt, 4096);
        let first = ClientFirst::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
        let server_nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let (awaiting, bytes) =
            AwaitingProof::answer_with(Hash::Sha256, first, (verifier, true), server_nonce);
        let expected = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(bytes, expected.as_bytes());
        let last = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let (user, bytes) = awaiting.check(last.as_bytes()).unwrap();
        assert_eq!(user, "user");
        assert_eq!(bytes, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    /// What a client computes, for the cases that have no vector.
    fn client_final(
        hash: Hash,
        password: &str,
        bare: &str,
        server_first: &str,
        repeated: &str,
    ) -> Vec<u8> {
        let field = |name: &str| {
            let mut fields = server_first.split(',');
            fields.find_map(|field| field.strip_prefix(name)).unwrap().to_owned()
        };
        let salt = STANDARD.decode(field("s=")).unwrap();
        let iterations = field("i=").parse().unwrap();
        let mut salted = vec![0; hash.digest(b"").len()];
        match hash {
            Hash::Sha256 => pbkdf2::pbkdf2_hmac::<sha2::Sha256>(
                password.as_bytes(),
                &salt,
                iterations,
                &mut salted,
            ),
            Hash::Sha512 => pbkdf2::pbkdf2_hmac::<sha2::Sha512>(
                password.as_bytes(),
                &salt,
                iterations,
                &mut salted,
            ),
        }
        let client_key = hash.hmac(&salted, b"Client Key");
        let without_proof = format!("c=biws,r={repeated}{}", field("r="));
        let signed = format!("{bare},{server_first},{without_proof}");
        let signature = hash.hmac(&hash.digest(&client_key), signed.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes()
    }

    fn exchange(hash: Hash, verifier: (Verifier, bool), typed: &str) -> Result<String, ScramError> {
        exchange_with(hash, verifier, typed, "")
    }

    /// `repeated` stands before the nonce of the final message.
    fn exchange_with(
        hash: Hash,
        verifier: (Verifier, bool),
        typed: &str,
        repeated: &str,
    ) -> Result<String, ScramError> {
        let bare = "n=us=2Cer=3D,r=abc";
        let first = ClientFirst::parse(format!("n,,{bare}").as_bytes()).unwrap();
        let (awaiting, bytes) = AwaitingProof::answer(hash, first, verifier);
        let server_first = String::from_utf8(bytes).unwrap();
        let last = client_final(hash, typed, bare, &server_first, repeated);
        awaiting.check(&last).map(|(user, _)| user)
    }

    #[test]
    fn the_right_password_logs_in_and_a_wrong_one_or_an_unknown_user_does_not() {
        for hash in [Hash::Sha256, Hash::Sha512] {
            let verifier = Verifier::derive(hash, "pencil");
            assert_eq!(exchange(hash, (verifier.clone(), true), "pencil"), Ok("us,er=".to_owned()));
            let wrong = Err(ScramError::WrongPassword);
            assert_eq!(exchange(hash, (verifier.clone(), true), "pencils"), wrong);
            assert_eq!(exchange(hash, (verifier, false), "pencil"), wrong);
        }
    }

    #[test]
    fn old_librdkafka_logs_in_with_its_part_of_the_nonce_written_twice() {
        let verifier = |hash| (Verifier::derive(hash, "pencil"), true);
        for hash in [Hash::Sha256, Hash::Sha512] {
            let user = exchange_with(hash, verifier(hash), "pencil", "abc");
            assert_eq!(user, Ok("us,er=".to_owned()));
            let wrong = exchange_with(hash, verifier(hash), "pencils", "abc");
            assert_eq!(wrong, Err(ScramError::WrongPassword));
            for repeated in ["a", "abcabc", "xyz", "bc"] {
                let odd = exchange_with(hash, verifier(hash), "pencil", repeated);
                assert_eq!(odd, Err(ScramError::Malformed), "{repeated}");
            }
        }
    }

    #[test]
    fn messages_out_of_shape_are_refused() {
        let cases: &[(&str, ScramError)] = &[
            ("", ScramError::Malformed),
            ("n,,r=abc,n=user", ScramError::Malformed),
            ("n,,n=,r=abc", ScramError::Malformed),
            ("n,,n=a=b,r=abc", ScramError::Malformed),
            ("n,,n=user,r=", ScramError::Malformed),
            ("x,,n=user,r=abc", ScramError::Malformed),
            ("n,b,n=user,r=abc", ScramError::Malformed),
            ("p=tls-unique,,n=user,r=abc", ScramError::NotOffered),
            ("n,a=other,n=user,r=abc", ScramError::NotOffered),
            ("n,,n=user,r=abc,tokenauth=true", ScramError::NotOffered),
        ];
        for (message, expected) in cases {
            assert_eq!(ClientFirst::parse(message.as_bytes()), Err(*expected), "{message}");
        }
        assert!(ClientFirst::parse(b"y,a=user,n=user,r=abc").is_ok());
    }

    #[test]
    fn a_final_message_with_another_nonce_or_header_is_refused() {
        let hash = Hash::Sha256;
        for last in ["c=biws,r=other,p=AAAA", "c=eSws,r=abcSRV,p=AAAA", "c=biws,r=abcSRV", "p="] {
            let first = ClientFirst::parse(b"n,,n=user,r=abc").unwrap();
            let verifier = (Verifier::derive(hash, "x"), true);
            let (awaiting, _) = AwaitingProof::answer_with(hash, first, verifier, "SRV");
            assert_eq!(awaiting.check(last.as_bytes()), Err(ScramError::Malformed), "{last}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_message_makes_it_panic(first: Vec<u8>, last: Vec<u8>) {
            let _ = ClientFirst::parse(&first);
            let known = ClientFirst::parse(b"n,,n=user,r=abc").unwrap();
            let verifier = (Verifier::nobody(Hash::Sha512, b"k", "user", Look::default()), false);
            let (awaiting, _) = AwaitingProof::answer(Hash::Sha512, known, verifier);
            let _ = awaiting.check(&last);
        }
    }
}
