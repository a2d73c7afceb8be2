//! The three requests by which a client finds its feet, as bytes: ApiVersions 0, SaslHandshake 1
//! and Metadata 2. Their answers are read by hand, because a generated decoder reserves memory for
//! counts that it has not checked, and whoever answers here may be anybody.

/// None of the three answers of a sound broker comes near this.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// What stands in every request, and comes back in its answer.
const CORRELATION_ID: i32 = 7;

const METADATA: i16 = 3;
const SASL_HANDSHAKE: i16 = 17;
const API_VERSIONS: i16 = 18;

pub fn api_versions_request() -> Vec<u8> {
    request(API_VERSIONS, 0, &[])
}

pub fn sasl_handshake_request(mechanism: &str) -> Vec<u8> {
    request(SASL_HANDSHAKE, 1, &text(mechanism))
}

/// About no topic.
pub fn metadata_request() -> Vec<u8> {
    request(METADATA, 2, &0_i32.to_be_bytes())
}

/// Another one each time: a server that sees one client ask for its address again and again takes
/// it for one that cannot reach it.
fn client_id() -> String {
    format!("odradek-doctor-{}", std::process::id())
}

/// A frame with Kafka's request header, version 1.
fn request(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    content.extend(key.to_be_bytes());
    content.extend(version.to_be_bytes());
    content.extend(CORRELATION_ID.to_be_bytes());
    content.extend(text(&client_id()));
    content.extend(body);
    let length = i32::try_from(content.len()).expect("a few dozen bytes");
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend(content);
    frame
}

fn text(text: &str) -> Vec<u8> {
    let length = i16::try_from(text.len()).unwrap_or(i16::MAX);
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(text.bytes().take(usize::from(length.unsigned_abs())));
    bytes
}

/// Where Metadata says the broker is, and to which cluster it belongs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placed {
    pub broker: Option<(String, u16)>,
    pub cluster_id: Option<String>,
}

/// The API keys served.
pub fn api_versions_answer(bytes: &[u8]) -> Option<Vec<i16>> {
    let mut answer = Answer::begin(bytes)?;
    if answer.i16()? != 0 {
        return None;
    }
    let count = answer.count()?;
    let mut keys = Vec::new();
    for _ in 0..count {
        keys.push(answer.i16()?);
        // Oldest and newest version.
        answer.take::<4>()?;
    }
    keys.contains(&API_VERSIONS).then_some(keys)
}

/// The mechanisms offered.
pub fn sasl_handshake_answer(bytes: &[u8]) -> Option<Vec<String>> {
    let mut answer = Answer::begin(bytes)?;
    answer.i16()?;
    let count = answer.count()?;
    (0..count).map(|_| answer.text()?).collect()
}

pub fn metadata_answer(bytes: &[u8]) -> Option<Placed> {
    let mut answer = Answer::begin(bytes)?;
    let count = answer.count()?;
    let mut placed = Placed::default();
    for _ in 0..count {
        answer.i32()?;
        let host = answer.text()??;
        let port = u16::try_from(answer.i32()?).ok()?;
        answer.text()?;
        placed.broker.get_or_insert((host, port));
    }
    placed.cluster_id = answer.text()?;
    Some(placed)
}

/// What is left of an answer. Everything is checked against the bytes that are there.
struct Answer<'a>(&'a [u8]);

impl<'a> Answer<'a> {
    /// Behind the correlation id, if it is that of the request.
    fn begin(bytes: &'a [u8]) -> Option<Self> {
        let mut answer = Self(bytes);
        (answer.i32()? == CORRELATION_ID).then_some(answer)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn i16(&mut self) -> Option<i16> {
        self.take().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    /// Of an array. Each element has two bytes at least, which bounds the loop over them.
    fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.i32()?).ok()?;
        (count <= self.0.len() / 2).then_some(count)
    }

    /// The inner `None` is Kafka's null.
    fn text(&mut self) -> Option<Option<String>> {
        let Ok(length) = usize::try_from(self.i16()?) else { return Some(None) };
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Some(printable(head)))
    }
}

/// What a stranger sends is shown to a person: nothing in it may move a cursor.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().take(255).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By Kafka's schemas: RequestHeader 1, ApiVersionsRequest 0, SaslHandshakeRequest 1 and
    /// MetadataRequest 2.
    #[test]
    fn requests_are_those_of_kafkas_schemas() {
        let id = client_id();
        let id_length = u8::try_from(id.len()).expect("short");
        let framed = |key: u8, version: u8, body: &[u8]| {
            // Key and version, correlation id, and the length of the client id: 10 bytes.
            let length = 10 + id_length + u8::try_from(body.len()).expect("short");
            let head = [0, 0, 0, length, 0, key, 0, version, 0, 0, 0, 7, 0, id_length];
            [&head[..], id.as_bytes(), body].concat()
        };
        assert_eq!(api_versions_request(), framed(18, 0, b""));
        assert_eq!(metadata_request(), framed(3, 2, &[0, 0, 0, 0]));
        assert_eq!(sasl_handshake_request("PLAIN"), framed(17, 1, b"\0\x05PLAIN"));
    }

    #[test]
    fn answers_are_read_as_kafkas_schemas_write_them() {
        let versions = [0, 0, 0, 7, 0, 0, 0, 0, 0, 2, 0, 3, 0, 0, 0, 13, 0, 18, 0, 0, 0, 4];
        assert_eq!(api_versions_answer(&versions), Some(vec![3, 18]));
        let mechanisms = [&[0, 0, 0, 7, 0, 33, 0, 0, 0, 1, 0, 5][..], b"PLAIN"].concat();
        assert_eq!(sasl_handshake_answer(&mechanisms), Some(vec!["PLAIN".to_owned()]));
        let mut metadata = vec![0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 1, 0, 3];
        metadata.extend(b"box\0\0\x23\x84\xff\xff\0\x02id\0\0\0\x01\0\0\0\0");
        let placed =
            Placed { broker: Some(("box".to_owned(), 9_092)), cluster_id: Some("id".to_owned()) };
        assert_eq!(metadata_answer(&metadata), Some(placed));
    }

    #[test]
    fn an_answer_that_lies_about_its_size_is_no_answer() {
        let endless = [0, 0, 0, 7, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 18];
        assert_eq!(api_versions_answer(&endless), None);
        assert_eq!(sasl_handshake_answer(&endless), None);
        assert_eq!(metadata_answer(&[0, 0, 0, 7, 0x7f, 0xff, 0xff, 0xff]), None);
        // Another request's.
        assert_eq!(api_versions_answer(&[0, 0, 0, 8, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(printable(b"a\x1b[31m\n"), "a\u{fffd}[31m\u{fffd}");
    }
}
