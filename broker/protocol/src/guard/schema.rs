//! The shape of a request, as data: what `generated.rs` is written in.

/// No version of Kafka.
pub(super) const NEVER: i16 = i16::MAX;

#[derive(Debug)]
pub(super) struct Request {
    pub api_key: i16,
    pub oldest: i16,
    pub newest: i16,
    /// Compact lengths and tagged fields from this version on.
    pub flexible_from: i16,
    pub fields: &'static [Field],
}

/// In the order of the wire. Each pair of versions is inclusive.
#[derive(Debug)]
pub(super) struct Field {
    pub kind: Kind,
    present: (i16, i16),
    nullable: (i16, i16),
    tagged: (i16, i16),
    tag: u32,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// Numbers, booleans, UUIDs: so many bytes.
    Fixed(usize),
    String,
    /// Records too: the guard does not look into them.
    Bytes,
    Struct(&'static [Field]),
    /// Elements, and the bytes one takes in the decoder's `Vec`.
    Array(&'static Kind, usize),
}

pub(super) const fn field(oldest: i16, newest: i16, kind: Kind) -> Field {
    let never = (NEVER, NEVER);
    Field { kind, present: (oldest, newest), nullable: never, tagged: never, tag: 0 }
}

impl Field {
    pub(super) const fn nullable(mut self, oldest: i16, newest: i16) -> Self {
        self.nullable = (oldest, newest);
        self
    }

    pub(super) const fn tagged(mut self, tag: u32, oldest: i16, newest: i16) -> Self {
        self.tag = tag;
        self.tagged = (oldest, newest);
        self
    }

    pub(super) fn is_in_line(&self, version: i16) -> bool {
        within(self.present, version) && !within(self.tagged, version)
    }

    pub(super) fn has_tag(&self, tag: u32, version: i16) -> bool {
        self.tag == tag && within(self.tagged, version)
    }

    pub(super) fn is_nullable(&self, version: i16) -> bool {
        within(self.nullable, version)
    }
}

fn within((oldest, newest): (i16, i16), version: i16) -> bool {
    oldest <= version && version <= newest
}

/// The fewest bytes a struct can have on the wire.
pub(super) fn struct_bytes_min(fields: &[Field], version: i16, flexible: bool) -> usize {
    let in_line = fields.iter().filter(|field| field.is_in_line(version));
    let fields_bytes: usize = in_line
        .map(|field| match field.kind {
            Kind::Struct(_) if field.is_nullable(version) => 1,
            _ => bytes_min(&field.kind, version, flexible),
        })
        .sum();
    // The count of tagged fields.
    fields_bytes + usize::from(flexible)
}

/// The fewest bytes a value can have on the wire: that of an empty string, bytes or array.
pub(super) fn bytes_min(kind: &Kind, version: i16, flexible: bool) -> usize {
    match kind {
        Kind::Fixed(bytes) => *bytes,
        Kind::String | Kind::Bytes | Kind::Array(..) if flexible => 1,
        Kind::String => 2,
        Kind::Bytes | Kind::Array(..) => 4,
        Kind::Struct(fields) => struct_bytes_min(fields, version, flexible),
    }
}
