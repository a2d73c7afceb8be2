//! The subject of a certificate as Java prints it (RFC 2253), which is Kafka's principal name.
//!
//! Only certificates that rustls has verified come here. Anything unexpected gives `None`, never a
//! wrong name.

/// `CN=client,O=Home` for a certificate in DER.
pub fn distinguished_name(certificate: &[u8]) -> Option<String> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut body, _) = element(certificate, SEQUENCE)?;
    if body.first() == Some(&EXPLICIT_VERSION) {
        body = element(body, EXPLICIT_VERSION)?.1;
    }
    // Serial number, signature algorithm, issuer, validity.
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE] {
        body = element(body, tag)?.1;
    }
    let (mut subject, _) = element(body, SEQUENCE)?;
    let mut names = Vec::new();
    while !subject.is_empty() {
        let (mut set, rest) = element(subject, SET)?;
        let mut parts = Vec::new();
        while !set.is_empty() {
            let (pair, others) = element(set, SEQUENCE)?;
            parts.push(attribute(pair)?);
            set = others;
        }
        names.push(parts.join("+"));
        subject = rest;
    }
    // RFC 2253 begins with the last one.
    names.reverse();
    (!names.is_empty()).then(|| names.join(","))
}

const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const EXPLICIT_VERSION: u8 = 0xa0;

/// The content of the element at the front, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    if *found != tag {
        return None;
    }
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// `CN=…`; types that RFC 2253 does not name are shown by number and bytes, as in Java.
fn attribute(pair: &[u8]) -> Option<String> {
    let (kind, value) = element(pair, OBJECT_IDENTIFIER)?;
    let named = match kind {
        [0x55, 0x04, 0x03] => "CN",
        [0x55, 0x04, 0x06] => "C",
        [0x55, 0x04, 0x07] => "L",
        [0x55, 0x04, 0x08] => "ST",
        [0x55, 0x04, 0x09] => "STREET",
        [0x55, 0x04, 0x0a] => "O",
        [0x55, 0x04, 0x0b] => "OU",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01] => "UID",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19] => "DC",
        _ => {
            let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            return Some(format!("{}=#{hex}", dotted(kind)?));
        }
    };
    let tag = *value.first()?;
    let (text, _) = element(value, tag)?;
    let text = match tag {
        // UTF8String, PrintableString, T61String, IA5String.
        0x0c | 0x13 | 0x14 | 0x16 => String::from_utf8(text.to_vec()).ok()?,
        // BMPString.
        0x1e => {
            let units: Vec<u16> =
                text.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16(&units).ok()?
        }
        _ => return None,
    };
    Some(format!("{named}={}", escaped(&text)))
}

/// An object identifier as numbers.
fn dotted(identifier: &[u8]) -> Option<String> {
    let mut numbers = Vec::new();
    let mut number = 0_u64;
    for byte in identifier {
        number = number.checked_mul(128)? + u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            numbers.push(number);
            number = 0;
        }
    }
    let first = *numbers.first()?;
    let root = (first / 40).min(2);
    numbers[0] = first - 40 * root;
    let text: Vec<String> = std::iter::once(root).chain(numbers).map(|n| n.to_string()).collect();
    Some(text.join("."))
}

/// RFC 2253, section 2.4.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, c) in text.chars().enumerate() {
        let edge = (c == ' ' && (at == 0 || at == last)) || (c == '#' && at == 0);
        if edge || ",+\"\\<>;".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_rfc_2253_says() {
        // The RFC's own examples, section 5.
        assert_eq!(escaped("L. Eagle"), "L. Eagle");
        assert_eq!(escaped("Sue, Grabbit and Runn"), "Sue\\, Grabbit and Runn");
        assert_eq!(escaped(" #a "), "\\ #a\\ ");
        assert_eq!(
            dotted(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1]).unwrap(),
            "1.2.840.113549.1.9.1"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = distinguished_name(&bytes);
        }
    }
}
