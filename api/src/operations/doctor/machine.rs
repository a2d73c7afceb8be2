//! The machine: data folder, disk, clock, files with secrets, open files, memory.

use odradek_broker::diagnose::{
    CLOCK_NOT_SYNCHRONISED, CLOCK_SKEW, DATA_FOLDER_READABLE, DATA_FOLDER_UNUSABLE,
    DISK_NEARLY_FULL, MEMORY_SHORT, OPEN_FILES_LIMIT, SECRET_FILE_READABLE,
};

use super::Finding;
use super::facts::{DiskSeen, Facts, FolderSeen, Http, View};
use super::server::duration;

const MIB: u64 = 1024 * 1024;
/// An HTTP date has whole seconds, and the answer takes a moment.
const CLOCK_AHEAD_S_MAX: i64 = 5;
/// A file may have been written a moment ago by a clock that is being slewed.
const FUTURE_FILE_S_MAX: i64 = 60;
const DAY_S: f64 = 86_400.0;
/// What the log and the rest of the process may hold open beside connections.
const OTHER_FILES: u64 = 256;

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let view = match &facts.http {
        Http::Told { view, .. } => Some(view),
        _ => None,
    };
    let mut findings = Vec::new();
    findings.extend(facts.folder.iter().flat_map(folder));
    findings.extend(facts.disk.as_ref().map(|disk| space(disk, view)));
    findings.extend(secrets(facts));
    findings.extend(clock(facts, view));
    findings.extend(view.and_then(|view| open_files(facts, view)));
    findings.extend(memory(facts, view));
    findings
}

fn folder(folder: &FolderSeen) -> Vec<Finding> {
    const SUBJECT: &str = "data folder";
    if let Some(why) = &folder.unusable {
        let what = format!("{} cannot be used", folder.path);
        let finding = Finding::problem(DATA_FOLDER_UNUSABLE, SUBJECT, what);
        return vec![finding.evidence(why.clone())];
    }
    match folder.mode.filter(|mode| mode & 0o007 != 0) {
        Some(mode) => {
            let what = "every user of this machine can look into it";
            let finding = Finding::warning(DATA_FOLDER_READABLE, SUBJECT, what);
            let finding = finding.evidence(format!("{} has mode {mode:04o}", folder.path));
            vec![finding.fix(format!("chmod o-rwx {}", folder.path))]
        }
        None => vec![Finding::ok(SUBJECT, folder.path.clone())],
    }
}

fn space(disk: &DiskSeen, view: Option<&View>) -> Finding {
    const SUBJECT: &str = "disk";
    let DiskSeen { free_bytes, reserve_bytes } = *disk;
    let says =
        format!("{} MiB are free, the reserve is {} MiB", free_bytes / MIB, reserve_bytes / MIB);
    if free_bytes <= reserve_bytes {
        return Finding::problem(DISK_NEARLY_FULL, SUBJECT, "appends have stopped").evidence(says);
    }
    let room_bytes = free_bytes - reserve_bytes;
    if room_bytes < reserve_bytes {
        let what = "it is nearly full";
        return Finding::warning(DISK_NEARLY_FULL, SUBJECT, what).evidence(says);
    }
    #[expect(clippy::cast_precision_loss, reason = "a forecast need not be exact")]
    let lasts_s =
        view.filter(|v| v.bytes_in_per_s > 0.0).map(|v| room_bytes as f64 / v.bytes_in_per_s);
    match lasts_s.filter(|seconds| *seconds < DAY_S) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below a day")]
        Some(seconds) => {
            let what = format!(
                "at the present rate it is full in {}, unless retention removes as much",
                duration(seconds as u64)
            );
            let rate = view.map_or(0.0, |view| view.bytes_in_per_s) / MIB as f64;
            let evidence = format!("{says}; {rate:.1} MiB a second come in");
            Finding::warning(DISK_NEARLY_FULL, SUBJECT, what).evidence(evidence)
        }
        None => Finding::ok(SUBJECT, says),
    }
}

fn secrets(facts: &Facts) -> Vec<Finding> {
    const SUBJECT: &str = "secrets";
    let mut findings = Vec::new();
    for file in &facts.secret_files {
        let evidence = |more: String| format!("it holds {}; {more}", file.secret);
        if let Some(mode) = file.mode.filter(|mode| mode & 0o006 != 0) {
            let what = format!("every user of this machine can read or change {}", file.path);
            let finding = Finding::warning(SECRET_FILE_READABLE, SUBJECT, what);
            let finding = finding.evidence(evidence(format!("mode {mode:04o}")));
            findings.push(finding.fix(format!("chmod o-rwx {}", file.path)));
        }
        if let Some(owner) = file.stranger {
            let what = format!("{} belongs to a user who is not the server's", file.path);
            let finding = Finding::warning(SECRET_FILE_READABLE, SUBJECT, what);
            let finding =
                finding.evidence(evidence(format!("user {owner} can read and change it")));
            findings
                .push(finding.fix("chown it to root, or to the user under whom the server runs"));
        }
    }
    if findings.is_empty() && facts.secret_files.iter().any(|file| file.mode.is_some()) {
        let what = "files with passwords and keys are closed to other users";
        return vec![Finding::ok(SUBJECT, what)];
    }
    findings
}

fn clock(facts: &Facts, view: Option<&View>) -> Vec<Finding> {
    const SUBJECT: &str = "clock";
    let mut findings = Vec::new();
    if let Some(ahead_s) = view.and_then(|view| view.clock_ahead_s)
        && ahead_s.abs() > CLOCK_AHEAD_S_MAX
    {
        let word = if ahead_s > 0 { "ahead of" } else { "behind" };
        let apart = duration(ahead_s.unsigned_abs());
        let what = format!("the server's is {apart} {word} this machine's");
        findings.push(Finding::warning(CLOCK_SKEW, SUBJECT, what));
    }
    if let Some(newest_s) = facts.clock.newest_file_s
        && newest_s > facts.now_s + FUTURE_FILE_S_MAX
    {
        let future = duration((newest_s - facts.now_s).unsigned_abs());
        let what = format!("the data folder has a file from {future} in the future");
        let finding = Finding::warning(CLOCK_SKEW, SUBJECT, what);
        findings.push(finding.evidence("the clock was set back, or was wrong before"));
    }
    match facts.clock.is_synchronised {
        Some(false) => {
            let what = "it is not set by network time";
            findings.push(Finding::warning(CLOCK_NOT_SYNCHRONISED, SUBJECT, what));
        }
        Some(true) if findings.is_empty() => {
            findings.push(Finding::ok(SUBJECT, "it is set by network time"));
        }
        _ => {}
    }
    findings
}

fn open_files(facts: &Facts, view: &View) -> Option<Finding> {
    const SUBJECT: &str = "open files";
    let max = view.open_files_max?;
    let open = view.open_files.unwrap_or_default();
    let needed = facts.connections_max.unwrap_or_default() + OTHER_FILES;
    if max < needed || open > max / 10 * 9 {
        let what = format!("the server may open {max}, and may need {needed}");
        let finding = Finding::warning(OPEN_FILES_LIMIT, SUBJECT, what);
        return Some(finding.evidence(format!("{open} are open now")));
    }
    Some(Finding::ok(SUBJECT, format!("{open} of {max}")))
}

fn memory(facts: &Facts, view: Option<&View>) -> Option<Finding> {
    const SUBJECT: &str = "memory";
    let (view, available) = (view?, facts.memory_available_bytes?);
    let grows = view.memory_bytes_max.saturating_sub(view.memory_bytes.unwrap_or_default());
    let says = format!(
        "the server may use {} MiB more (odradek.memory.max.bytes), {} MiB are available",
        grows / MIB,
        available / MIB
    );
    if available < grows {
        let what = "it may run out before the server reaches its cap";
        return Some(Finding::warning(MEMORY_SHORT, SUBJECT, what).evidence(says));
    }
    Some(Finding::ok(SUBJECT, says))
}
