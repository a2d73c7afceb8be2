//! Which files of a partition's folder count, when it is attached. A crash may have undone any
//! unlinking and left any rewriting unfinished, so the folder may hold more than the log does:
//!
//! - A rewritten segment counts once its side file is whole (that is the moment of the swap); then
//!   whatever it was made from is superseded. Without it, it is an unfinished attempt, and what it
//!   was to be made from is still there, first of all a segment of the same base offset.
//! - What lies below the log start is trimmed. Of the trimmed ones the newest side file stays if
//!   no sealed segment follows: the producers in it outlive their batches.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::core::Core;
use crate::name::{FileKind, SegmentName};
use crate::partition::Partition;

struct Survey {
    logs: BTreeMap<SegmentName, u64>,
    sides: BTreeSet<SegmentName>,
}

impl Core {
    /// Names and sizes of the segment files that count, by base offset. All others are on their
    /// way out.
    pub fn survey(&self, partition: &Partition) -> io::Result<Vec<(SegmentName, u64)>> {
        let mut survey = Survey { logs: BTreeMap::new(), sides: BTreeSet::new() };
        for entry in self.disk.list(&partition.folder)? {
            match SegmentName::parse(&entry.name) {
                Some((name, FileKind::Log)) => drop(survey.logs.insert(name, entry.bytes)),
                Some((name, FileKind::Side)) => drop(survey.sides.insert(name)),
                None => {}
            }
        }
        self.drop_rewritten(partition, &mut survey)?;
        self.drop_trimmed(partition, &mut survey)?;
        Ok(survey.logs.into_iter().collect())
    }

    /// Leaves one segment of each range: the newest whole one.
    fn drop_rewritten(&self, partition: &Partition, survey: &mut Survey) -> io::Result<()> {
        let mut rewritten: Vec<SegmentName> =
            survey.logs.keys().filter(|name| name.generation > 0).copied().collect();
        rewritten.sort_by_key(|name| std::cmp::Reverse(name.generation));
        for name in rewritten {
            // Superseded by a newer one already.
            let Some(bytes) = survey.logs.get(&name).copied() else { continue };
            let side = self.segments.read_side(partition, name)?;
            let side = side.filter(|side| side.summary.bytes == bytes);
            let older = |other: &SegmentName| other.generation < name.generation;
            match side {
                Some(side) => {
                    let range = name.base_offset..side.summary.end_offset;
                    let in_range = |other: &SegmentName| range.contains(&other.base_offset);
                    let gone = survey.logs.keys().filter(|other| in_range(other) && older(other));
                    let gone: Vec<SegmentName> = gone.copied().collect();
                    self.doom_segments(partition, survey, &gone);
                }
                None => {
                    let same = |other: &SegmentName| other.base_offset == name.base_offset;
                    if survey.logs.keys().any(|other| same(other) && older(other)) {
                        self.delete_unfinished(partition, name)?;
                        survey.logs.remove(&name);
                        survey.sides.remove(&name);
                    }
                    // Else its side file is damaged, and it is all there is: it is sealed anew.
                }
            }
        }
        Ok(())
    }

    /// Nobody reads it, and its name is the next attempt's: it goes at once.
    pub fn delete_unfinished(&self, partition: &Partition, name: SegmentName) -> io::Result<()> {
        self.delete(&partition.side_path(name))?;
        self.delete(&partition.segment_path(name))
    }

    fn drop_trimmed(&self, partition: &Partition, survey: &mut Survey) -> io::Result<()> {
        let start = partition.shared().log_start_offset;
        let names: Vec<SegmentName> = survey.logs.keys().copied().collect();
        let trimmed = names.windows(2).filter(|pair| pair[1].base_offset <= start);
        let mut gone: Vec<SegmentName> = trimmed.map(|pair| pair[0]).collect();
        let is_gone = |name: &SegmentName| gone.contains(name) || !names.contains(name);
        let mut kept = None;
        let mut is_known = false;
        // From the newest down to the first that is whole.
        for name in survey.sides.iter().rev() {
            let Some(side) = self.segments.read_side(partition, *name)? else { continue };
            let end_offset = side.summary.end_offset;
            if is_gone(name) && end_offset > start {
                // What an attempt at rewriting has left.
                continue;
            }
            is_known = true;
            kept = is_gone(name).then_some((*name, end_offset));
            break;
        }
        if !is_known {
            // Nothing else tells their producers: they are sealed anew, and go after that.
            gone.clear();
        }
        if let Some((name, end_offset)) = kept {
            // What lies before its end was trimmed with it, or merged into it before that.
            partition.shared().kept_side = Some(name);
            survey.sides.remove(&name);
            gone = names.iter().copied().filter(|name| name.base_offset < end_offset).collect();
        }
        self.doom_segments(partition, survey, &gone);
        let logs = &survey.logs;
        for name in survey.sides.iter().filter(|name| !logs.contains_key(name)) {
            self.doom_side(partition, *name);
        }
        Ok(())
    }

    /// The log first: without its side file it would count as unfinished.
    fn doom_segments(&self, partition: &Partition, survey: &mut Survey, gone: &[SegmentName]) {
        for name in gone {
            survey.logs.remove(name);
            self.doom_log(partition, *name);
            if survey.sides.remove(name) {
                self.doom_side(partition, *name);
            }
        }
    }
}
