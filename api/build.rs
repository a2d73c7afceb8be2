//! Lists and compresses the console's files for `src/console`.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use flate2::Compression;
use flate2::write::GzEncoder;

fn main() -> io::Result<()> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).join("console");
    let out = PathBuf::from(env::var("OUT_DIR").expect("set by cargo"));
    println!("cargo::rerun-if-changed={}", root.display());
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let mut code = "static FILES: &[File] = &[\n".to_owned();
    for (index, file) in files.iter().enumerate() {
        let plain = fs::read(file)?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&plain)?;
        let compressed = out.join(format!("console_{index}.gz"));
        fs::write(&compressed, encoder.finish()?)?;
        let mut hasher = DefaultHasher::new();
        plain.hash(&mut hasher);
        let name = file.strip_prefix(&root).expect("collected below it");
        let name = name.to_str().expect("file names here are ASCII").replace('\\', "/");
        writeln!(
            code,
            "    File {{ path: {:?}, hash: \"{:016x}\", plain: include_bytes!({file:?}), \
             gzip: include_bytes!({compressed:?}) }},",
            format!("/{name}"),
            hasher.finish(),
        )
        .expect("a String takes every text");
    }
    code.push_str("];\n");
    fs::write(out.join("console_files.rs"), code)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_none_or(|extension| extension != "md") {
            files.push(path);
        }
    }
    Ok(())
}
