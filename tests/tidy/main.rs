//! House rules that a machine can hold: the arrows between packages, sizes, banned words.
//!
//! Reads the manifests and the source text; builds nothing. A rule that fails names each place.

mod source;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use source::{Function, Source};

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 800;
const COLUMNS_MAX: usize = 100;

/// Who may depend on whom: each package with the packages it may name in its manifest.
const ARROWS: &[(&str, &str, &[&str])] = &[
    ("broker/protocol", "odradek-protocol", &[]),
    ("broker/log", "odradek-log", &["odradek-protocol"]),
    ("broker", "odradek-broker", &["odradek-protocol", "odradek-log"]),
    ("ingest", "odradek-ingest", &["odradek-broker"]),
    ("analytics", "odradek-analytics", &["odradek-broker"]),
    ("api", "odradek", &["odradek-broker", "odradek-ingest", "odradek-analytics"]),
    (
        "tests",
        "odradek-tests",
        &[
            "odradek-protocol",
            "odradek-log",
            "odradek-broker",
            "odradek-ingest",
            "odradek-analytics",
            "odradek",
        ],
    ),
    (
        "tests/fuzz",
        "odradek-fuzz",
        &["odradek-protocol", "odradek-log", "odradek-broker", "odradek-ingest", "odradek"],
    ),
];

/// Written apart, so that this file does not hold them.
const BANNED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
];

const BANNED_MODULES: &[&str] = &["utils", "util", "common", "helpers", "manager"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_path_buf()
}

fn manifest(path: &Path) -> toml::Table {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every file below the root that is ours and has one of these endings.
fn files(endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the checkout") {
            let path = entry.expect("a folder entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                let foreign = matches!(name.as_str(), "target" | "vendor" | "node_modules");
                if !name.starts_with('.') && !foreign {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn sources() -> Vec<(String, Source)> {
    let read = |path: &PathBuf| fs::read_to_string(path).expect("source text is UTF-8");
    files(&[".rs"]).iter().map(|path| (shown(path), Source::new(&read(path)))).collect()
}

fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs")
}

fn none(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn packages_depend_only_along_the_arrows() {
    let workspace = manifest(&root().join("Cargo.toml"));
    let members = workspace["workspace"]["members"].as_array().expect("a list of members");
    let members: Vec<&str> = members.iter().filter_map(toml::Value::as_str).collect();
    let mut broken = Vec::new();
    for member in &members {
        if !ARROWS.iter().any(|(folder, _, _)| folder == member) {
            broken.push(format!("{member} is no package of the design"));
        }
    }
    for (folder, name, allowed) in ARROWS {
        let manifest = manifest(&root().join(folder).join("Cargo.toml"));
        assert_eq!(manifest["package"]["name"].as_str(), Some(*name), "{folder}");
        for dependency in dependencies(&manifest) {
            let ours = ARROWS.iter().any(|(_, other, _)| *other == dependency);
            if ours && !allowed.contains(&dependency.as_str()) {
                broken.push(format!("{name} -> {dependency}"));
            }
        }
    }
    none("protocol <- log <- broker <- ingest, analytics <- api <- tests", &broken);
}

fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let mut names = Vec::new();
    for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
        if let Some(table) = manifest.get(kind).and_then(toml::Value::as_table) {
            names.extend(table.keys().cloned());
        }
    }
    names
}

#[test]
fn only_the_api_has_a_binary() {
    let with_main = ARROWS.iter().filter(|(folder, _, _)| {
        let folder = root().join(folder);
        let listed = manifest(&folder.join("Cargo.toml")).contains_key("bin");
        listed || folder.join("src/main.rs").exists() || folder.join("src/bin").exists()
    });
    assert_eq!(with_main.map(|(folder, _, _)| *folder).collect::<Vec<_>>(), ["api"]);
}

#[test]
fn every_package_has_its_architecture_on_a_page() {
    let missing =
        |folder: &&(&str, &str, &[&str])| !root().join(folder.0).join("README.md").exists();
    let broken: Vec<String> = ARROWS.iter().filter(missing).map(|row| row.0.to_owned()).collect();
    none("a package has a README.md", &broken);
    assert!(root().join("README.md").exists(), "the root has a README.md");
}

#[test]
fn functions_fit_on_a_screen() {
    let mut broken = Vec::new();
    for (path, source) in sources() {
        if is_test_file(&path) {
            continue;
        }
        for Function { name, line, lines } in source.functions() {
            if lines > FUNCTION_LINES_MAX && line < source.tests_begin {
                broken.push(format!("{path}:{line} {name}: {lines} lines"));
            }
        }
    }
    none("a function has at most 70 lines", &broken);
}

#[test]
fn files_hold_one_idea() {
    let mut broken = Vec::new();
    for (path, source) in sources() {
        let lines = source.tests_begin - 1;
        if !is_test_file(&path) && lines >= FILE_LINES_MAX {
            broken.push(format!("{path}: {lines} lines"));
        }
    }
    none("a file has fewer than 800 lines (its tests not counted)", &broken);
}

#[test]
fn lines_end_before_column_100() {
    let mut broken = Vec::new();
    for path in files(&[".rs", ".py"]) {
        let text = fs::read_to_string(&path).expect("source text is UTF-8");
        for (index, line) in text.lines().enumerate() {
            // A string cannot always be broken: a wire capture, an address.
            let unbreakable = line.split_whitespace().any(|word| word.chars().count() > 80);
            if line.chars().count() > COLUMNS_MAX && !unbreakable {
                broken.push(format!("{}:{}", shown(&path), index + 1));
            }
        }
    }
    none("a line has at most 100 columns", &broken);
}

#[test]
fn nothing_is_unsafe() {
    let mut broken = Vec::new();
    for (path, source) in sources() {
        for (index, line) in source.code.lines().enumerate() {
            let words = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            if words.into_iter().any(|word| word == "unsafe") {
                broken.push(format!("{path}:{}", index + 1));
            }
        }
    }
    none("unsafe is forbidden", &broken);
}

#[test]
fn nothing_is_left_for_later() {
    let mut broken = Vec::new();
    for path in files(&[".rs", ".py", ".js", ".css", ".toml", ".sh", ".html"]) {
        let text = fs::read_to_string(&path).expect("source text is UTF-8");
        for (index, line) in text.lines().enumerate() {
            if BANNED.iter().any(|word| line.contains(word)) {
                broken.push(format!("{}:{}: {}", shown(&path), index + 1, line.trim()));
            }
        }
    }
    none("banned words", &broken);
}

#[test]
fn modules_are_named_after_what_they_hold() {
    let mut broken = Vec::new();
    for path in files(&[".rs"]) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let name = if stem == "mod" { folder } else { stem };
        if BANNED_MODULES.contains(&name.as_ref()) {
            broken.push(shown(&path));
        }
    }
    none("no module is called utils, common, helpers or manager", &broken);
}

#[test]
fn every_dependency_stands_once_in_the_workspace() {
    let mut broken = Vec::new();
    for (folder, name, _) in ARROWS {
        let manifest = manifest(&root().join(folder).join("Cargo.toml"));
        let mut versions = BTreeMap::new();
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let table = manifest.get(kind).and_then(toml::Value::as_table);
            for (dependency, value) in table.into_iter().flatten() {
                let shared = value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                if !shared {
                    versions.insert(dependency.clone(), value.to_string());
                }
            }
        }
        broken.extend(versions.iter().map(|(other, said)| format!("{name}: {other} = {said}")));
    }
    none("a dependency is `x.workspace = true`", &broken);
}
