//! `log.dirs`: the folder of all data, and a warning where a path of Windows was pasted wrongly.

use std::path::{Path, PathBuf};

use super::values::Reader;

/// The one folder; several, and the folder of an Apache Kafka, are problems.
pub fn resolve(reader: &Reader<'_>) -> PathBuf {
    let old = reader.written("log.dir");
    let dirs = reader.written("log.dirs").or(old).unwrap_or_else(|| reader.text("log.dirs"));
    let origin = reader.origin("log.dirs").or(reader.origin("log.dir"));
    let mut dirs = dirs.split(',').map(str::trim).filter(|dir| !dir.is_empty());
    let dir = PathBuf::from(dirs.next().unwrap_or("odradek-data"));
    if dirs.next().is_some() {
        let what = "more than one folder";
        reader.problem(origin, "log.dirs", what, "name one; partitions are not spread over disks");
    }
    // The start removes what does not belong to a known topic: never in somebody else's folder.
    if dir.join("meta.properties").exists() {
        let what = format!("{} holds the data of an Apache Kafka", dir.display());
        reader.problem(origin, "log.dirs", what, "name another folder, for example odradek-data");
    }
    dir
}

/// What to say of a path that begins with a drive and is hardly the folder that was meant. Kafka
/// takes such a path as it is, and so does this broker.
pub fn slip(dir: &Path, on_windows: bool) -> Option<String> {
    let text = dir.to_str()?;
    let (drive, rest) = text.split_once(':')?;
    if drive.len() != 1 || !drive.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    if !rest.starts_with(['/', '\\']) {
        return Some(format!(
            "log.dirs={text:?} has lost its backslashes: in this file a backslash is written \
             twice, or as a slash. Write for example {drive}:/kafka-logs"
        ));
    }
    (!on_windows).then(|| {
        format!(
            "log.dirs={text} is a path of Windows: on this machine it is a folder of that name in \
             the folder where the broker was started. Write a path of this machine, for example \
             log.dirs=/var/lib/odradek"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::properties;
    use super::*;

    /// The path of a line, as the file gives it, and what is said of it on both systems.
    fn said(line: &str) -> [Option<String>; 2] {
        let path = PathBuf::from(&properties::parse(line).unwrap()[0].value);
        [false, true].map(|on_windows| slip(&path, on_windows))
    }

    #[test]
    fn single_backslashes_are_lost_as_in_kafka_and_the_loss_is_explained() {
        for said in said(r"log.dirs=E:\Apps\kafka_2.13-3.4.0\kafka-logs") {
            let said = said.unwrap();
            assert!(said.contains("\"E:Appskafka_2.13-3.4.0kafka-logs\" has lost its backslashes"));
            assert!(said.contains("E:/kafka-logs"), "{said}");
        }
    }

    #[test]
    fn a_path_of_windows_is_one_on_windows_and_warned_about_elsewhere() {
        for line in [r"log.dirs=E:\\Apps\\kafka-logs", "log.dirs=E:/Apps/kafka-logs"] {
            let [here, on_windows] = said(line);
            assert!(here.unwrap().contains("is a path of Windows"));
            assert_eq!(on_windows, None);
        }
    }

    #[test]
    fn other_paths_pass() {
        for line in ["log.dirs=/var/lib/odradek", "log.dirs=odradek-data", "log.dirs=ab:c"] {
            assert_eq!(said(line), [None, None], "{line}");
        }
    }
}
