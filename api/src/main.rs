//! The binary `odradek`; `lib.rs` is its outline.

fn main() -> std::process::ExitCode {
    odradek::main()
}
