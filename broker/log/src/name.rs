//! File names of segments. A segment is `<base offset>.log` as Kafka names it; what compaction
//! makes of it, and of those merged into it, is `<base offset>.<generation>.log`. Kafka's own
//! tools take the offset from in front of the first dot and look for `.log` at the end, so
//! `kafka-dump-log` reads both.

/// Digits of an offset in a name.
const OFFSET_DIGITS: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SegmentName {
    pub base_offset: i64,
    /// How often it was rewritten: a file is never changed, its successor has another name.
    pub generation: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Log,
    Side,
}

impl SegmentName {
    pub fn path(self, folder: &str, kind: FileKind) -> String {
        let SegmentName { base_offset, generation } = self;
        let kind = kind.text();
        match generation {
            0 => format!("{folder}/{base_offset:020}.{kind}"),
            _ => format!("{folder}/{base_offset:020}.{generation}.{kind}"),
        }
    }

    /// `None` for a file that is no segment's.
    pub fn parse(file_name: &str) -> Option<(SegmentName, FileKind)> {
        let (offset, rest) = file_name.split_once('.')?;
        if offset.len() != OFFSET_DIGITS || !offset.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let base_offset = offset.parse().ok()?;
        let (generation, kind) = match rest.split_once('.') {
            Some((generation, kind)) => (generation.parse().ok().filter(|g| *g > 0)?, kind),
            None => (0, rest),
        };
        Some((SegmentName { base_offset, generation }, FileKind::parse(kind)?))
    }
}

impl FileKind {
    fn text(self) -> &'static str {
        match self {
            FileKind::Log => "log",
            FileKind::Side => "side",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [FileKind::Log, FileKind::Side].into_iter().find(|kind| kind.text() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_from_its_path_and_other_files_have_none() {
        for (base_offset, generation) in [(0, 0), (7, 3), (i64::MAX, u32::MAX)] {
            let name = SegmentName { base_offset, generation };
            for kind in [FileKind::Log, FileKind::Side] {
                let path = name.path("t-0", kind);
                assert_eq!(SegmentName::parse(&path[4..]), Some((name, kind)), "{path}");
            }
        }
        assert_eq!(
            SegmentName { base_offset: 42, generation: 1 }.path("t-0", FileKind::Log),
            "t-0/00000000000000000042.1.log"
        );
        for other in [
            "partition.metadata",
            "00000000000000000000.index",
            "00000000000000000000.0.log",
            "00000000000000000000.1.2.log",
            "0000000000000000000+.log",
            "42.log",
        ] {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
    }
}
