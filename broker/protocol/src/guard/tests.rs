use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Encodable};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::guard::schema::struct_bytes_min;

mod generated;

/// Decodes with kafka-protocol, and encodes again: what was left over, and the new bytes.
type Recode = fn(Bytes, i16) -> Result<(usize, Vec<u8>), String>;

fn recode<T: Decodable + Encodable>(
    mut body: Bytes,
    version: i16,
) -> Result<(usize, Vec<u8>), String> {
    let request = T::decode(&mut body, version).map_err(|error| error.to_string())?;
    let mut encoded = Vec::new();
    request.encode(&mut encoded, version).map_err(|error| error.to_string())?;
    Ok((body.len(), encoded))
}

fn codec(api_key: i16) -> Recode {
    generated::CODECS.iter().find(|(key, _)| *key == api_key).unwrap().1
}

/// All requests and the versions of them that kafka-protocol's request knows.
fn every_version() -> impl Iterator<Item = (&'static Request, i16)> {
    super::generated::REQUESTS.iter().flat_map(|request| {
        let (oldest, newest) = crate::frame::versions(request.api_key).unwrap();
        (oldest..=newest).map(move |version| (request, version))
    })
}

/// Writes what a schema allows, drawn from a stream of random bytes (zeros once that has ended).
struct Writer<'a> {
    version: i16,
    flexible: bool,
    random: std::slice::Iter<'a, u8>,
    out: Vec<u8>,
    wrote_tags: bool,
}

impl Writer<'_> {
    fn draw(&mut self, below: u8) -> u8 {
        self.random.next().map_or(0, |byte| byte % below)
    }

    fn fields(&mut self, fields: &[Field]) {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_in_line(version)) {
            self.field(field);
        }
        if self.flexible {
            self.tags(fields);
        }
    }

    fn field(&mut self, field: &Field) {
        let null = field.is_nullable(self.version) && self.draw(3) == 0;
        match &field.kind {
            Kind::Struct(fields) if field.is_nullable(self.version) => {
                self.out.push(if null { 0xff } else { 1 });
                if !null {
                    self.fields(fields);
                }
            }
            kind => self.value(kind, null),
        }
    }

    fn value(&mut self, kind: &Kind, null: bool) {
        let count = self.draw(4);
        match kind {
            // Booleans are among the single bytes, and are written as 0 or 1 again.
            Kind::Fixed(1) => self.out.push(count & 1),
            Kind::Fixed(bytes) => {
                let byte = self.draw(255);
                self.out.extend(std::iter::repeat_n(byte, *bytes));
            }
            Kind::Struct(fields) => self.fields(fields),
            Kind::String | Kind::Bytes => {
                let wide = matches!(kind, Kind::Bytes);
                self.length(if null { None } else { Some(count) }, wide);
                self.out.extend(std::iter::repeat_n(b'x', if null { 0 } else { count.into() }));
            }
            Kind::Array(element, _) => {
                self.length(if null { None } else { Some(count) }, true);
                for _ in 0..if null { 0 } else { count } {
                    self.value(element, false);
                }
            }
        }
    }

    fn length(&mut self, length: Option<u8>, wide: bool) {
        let signed = length.map_or(-1, i32::from);
        match (self.flexible, wide) {
            (true, _) => self.out.push(u8::try_from(signed + 1).unwrap()),
            (false, true) => self.out.extend(signed.to_be_bytes()),
            (false, false) => self.out.extend(i16::try_from(signed).unwrap().to_be_bytes()),
        }
    }

    fn tags(&mut self, fields: &[Field]) {
        let version = self.version;
        let known: Vec<_> = (0..20u32)
            .filter_map(|tag| {
                fields.iter().find(|field| field.has_tag(tag, version)).zip(Some(tag))
            })
            .filter(|_| self.draw(2) == 1)
            .collect();
        let unknown = self.draw(8) == 7;
        self.out.push(u8::try_from(known.len()).unwrap() + u8::from(unknown));
        self.wrote_tags |= !known.is_empty();
        for (field, tag) in known {
            let outer = std::mem::take(&mut self.out);
            self.field(field);
            let inner = std::mem::replace(&mut self.out, outer);
            self.out.extend([u8::try_from(tag).unwrap(), u8::try_from(inner.len()).unwrap()]);
            self.out.extend(inner);
        }
        if unknown {
            self.out.extend([100, 2, 7, 7]);
        }
    }
}

fn write(request: &Request, version: i16, random: &[u8]) -> (Vec<u8>, bool) {
    let flexible = version >= request.flexible_from;
    let random = random.iter();
    let mut writer = Writer { version, flexible, random, out: Vec::new(), wrote_tags: false };
    writer.fields(request.fields);
    (writer.out, writer.wrote_tags)
}

fn random_bytes(runner: &mut TestRunner, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|_| runner.rng().random::<u8>()).collect()
}

#[test]
fn whatever_a_schema_allows_passes_and_decodes_to_its_last_byte() {
    let mut runner = TestRunner::deterministic();
    for (request, version) in every_version() {
        for _ in 0..40 {
            let (body, tagged) = write(request, version, &random_bytes(&mut runner, 300));
            let name = format!("api {} version {version}: {body:?}", request.api_key);
            check(request.api_key, version, &body).unwrap_or_else(|e| panic!("{name}: {e}"));
            let recoded = codec(request.api_key)(body.clone().into(), version);
            let (left, again) = recoded.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(left, 0, "{name}");
            check(request.api_key, version, &again).unwrap();
            // A tagged field with its default value is not written again.
            assert!(tagged || again == body, "{name}\n{again:?}");
        }
    }
}

#[test]
fn every_cut_of_a_request_is_refused() {
    let mut runner = TestRunner::deterministic();
    for (request, version) in every_version() {
        let (body, _) = write(request, version, &random_bytes(&mut runner, 100));
        for end in 0..body.len() {
            let cut = &body[..end];
            let guarded = check(request.api_key, version, cut);
            assert!(guarded.is_err(), "api {} version {version}", request.api_key);
        }
    }
}

#[test]
fn a_mutated_request_never_panics_guard_or_decoder() {
    let mut runner = TestRunner::deterministic();
    let (mut tried, mut refused) = (0, 0);
    for (request, version) in every_version() {
        for _ in 0..40 {
            let random = random_bytes(&mut runner, 200);
            let (mut body, _) = write(request, version, &random);
            for pair in random.chunks(2).take(4) {
                let index = usize::from(pair[0]) % body.len().max(1);
                if let Some(byte) = body.get_mut(index) {
                    *byte ^= pair[1];
                }
            }
            match check(request.api_key, version, &body) {
                // Text that is not UTF-8 is the decoder's to refuse; so are tags it knows only in
                // other versions.
                Ok(()) => drop(codec(request.api_key)(body.into(), version)),
                Err(_) => refused += 1,
            }
            tried += 1;
        }
    }
    assert!(refused > tried / 10, "the mutations were too tame: {refused} of {tried}");
}

#[test]
fn a_request_that_announces_two_billion_elements_is_refused_at_the_count() {
    // Metadata version 1: an array of topics, 32-bit count.
    let body = [&i32::MAX.to_be_bytes()[..], b"\0\x01a"].concat();
    let refused = check(3, 1, &body).unwrap_err();
    assert!(matches!(refused, DecodeError::Truncated { position: 0, remaining: 3, .. }));
    // Metadata version 12: compact, the largest count a varint holds.
    let refused = check(3, 12, &[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 1, 1]).unwrap_err();
    assert!(matches!(refused, DecodeError::Truncated { position: 0, remaining: 3, .. }));
    // The decoder's varint silently drops bits beyond 32; the guard does not take them.
    assert!(check(3, 12, &[0xff, 0xff, 0xff, 0xff, 0x7f, 1, 1, 1]).is_err());
}

#[test]
fn a_tag_beyond_31_bits_is_refused_because_the_crate_takes_it_for_negative() {
    // ApiVersions version 3: two empty names, then one tagged field without content.
    let body = |tag: &[u8]| [&[1, 1, 1][..], tag, &[0]].concat();
    assert_eq!(check(18, 3, &body(&[0xff, 0xff, 0xff, 0xff, 0x07])), Ok(()));
    let refused = check(18, 3, &body(&[0x80, 0x80, 0x80, 0x80, 0x08])).unwrap_err();
    assert!(matches!(refused, DecodeError::Invalid { position: 3, .. }), "{refused}");
}

#[test]
fn more_than_a_million_elements_are_refused_even_in_several_arrays() {
    // DescribeGroups version 0: an array of strings.
    let groups = |count: i32| {
        let mut body = count.to_be_bytes().to_vec();
        body.extend(std::iter::repeat_n(b"\0\x04abcd", count.try_into().unwrap()).flatten());
        body
    };
    assert_eq!(check(15, 0, &groups(1_000_000)), Ok(()));
    let what = "array elements";
    let expected = DecodeError::TooMany { position: 0, what, count: 1_000_001, limit: 1_000_000 };
    assert_eq!(check(15, 0, &groups(1_000_001)), Err(expected));
    // OffsetDelete version 0: topics with partitions; no topic has many.
    let mut body = vec![0, 1, b'g', 0, 0, 0, 2];
    for _ in 0..2 {
        body.extend([0, 1, b't']);
        body.extend(500_000i32.to_be_bytes());
        body.extend(vec![0; 500_000 * 4]);
    }
    let refused = check(47, 0, &body).unwrap_err();
    assert!(matches!(refused, DecodeError::TooMany { count: 1_000_002, .. }), "{refused}");
}

#[test]
fn tagged_fields_are_counted_over_the_whole_request() {
    // ListGroups version 3 has no fields but tagged ones.
    let body = |count: u32| {
        let mut body = Vec::new();
        body.extend([(count & 0x7f) as u8 | 0x80, (count >> 7) as u8]);
        body.extend(std::iter::repeat_n([100, 0], count as usize).flatten());
        body
    };
    assert_eq!(check(16, 3, &body(2000)), Ok(()));
    let refused = check(16, 3, &body(10_001)).unwrap_err();
    assert!(matches!(refused, DecodeError::TooMany { what: "tagged fields", .. }), "{refused}");
}

#[test]
fn a_request_of_only_the_emptiest_elements_is_refused_by_the_memory_it_would_take() {
    // Metadata version 0: a topic with an empty name is two bytes on the wire.
    let body = |count: i32| {
        let mut body = count.to_be_bytes().to_vec();
        body.extend(vec![0; 2 * usize::try_from(count).unwrap()]);
        body
    };
    assert_eq!(check(3, 0, &body(10_000)), Ok(()));
    let refused = check(3, 0, &body(500_000)).unwrap_err();
    assert!(matches!(refused, DecodeError::TooMany { count: 36_000_032, .. }), "{refused}");
}

#[test]
fn a_known_tagged_field_that_lies_about_its_length_is_refused() {
    // Fetch version 12, tag 0: the cluster id, a nullable compact string.
    let fixed = [0; 4 + 4 + 4 + 4 + 1 + 4 + 4];
    let tail = |size: u8| [&fixed[..], &[1, 1, 1, 1, 0, size, 3, b'a', b'b']].concat();
    assert_eq!(check(1, 12, &tail(3)), Ok(()));
    for size in [0, 2, 4] {
        assert!(check(1, 12, &tail(size)).is_err(), "{size}");
    }
}

#[test]
fn bytes_behind_a_request_are_let_through_as_in_kafka() {
    assert_eq!(check(18, 0, b"trailing"), Ok(()));
}

#[test]
fn an_unknown_api_or_version_is_refused() {
    for (api_key, version) in [(3, 99), (3, -1), (7, 0), (-1, 0), (i16::MAX, 0), (0, 2)] {
        assert_eq!(check(api_key, version, &[]), Err(DecodeError::UnknownApi { api_key, version }));
    }
}

/// The README states this figure.
#[test]
fn the_decoders_worst_ratio_of_memory_to_wire_is_known() {
    fn worst(kind: &Kind, version: i16, flexible: bool) -> f64 {
        match kind {
            Kind::Array(element, memory) => {
                let here = *memory as f64 / bytes_min(element, version, flexible).max(1) as f64;
                here.max(worst(element, version, flexible))
            }
            Kind::Struct(fields) => fields
                .iter()
                .filter(|field| field.is_in_line(version))
                .map(|field| worst(&field.kind, version, flexible))
                .fold(0.0, f64::max),
            _ => 0.0,
        }
    }
    let ratio = every_version()
        .map(|(request, version)| {
            let flexible = version >= request.flexible_from;
            assert!(struct_bytes_min(request.fields, version, flexible) < 200);
            worst(&Kind::Struct(request.fields), version, flexible)
        })
        .fold(0.0, f64::max);
    assert_eq!(ratio, 40.0);
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_what_passes_is_safe_to_decode(
        body in prop::collection::vec(any::<u8>(), 0..300), index in any::<prop::sample::Index>(),
    ) {
        let versions: Vec<_> = every_version().collect();
        let (request, version) = versions[index.index(versions.len())];
        if check(request.api_key, version, &body).is_ok() {
            drop(codec(request.api_key)(body.into(), version));
        }
    }
}
