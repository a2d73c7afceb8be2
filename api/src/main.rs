//! The binary `odradek`; `lib.rs` is its outline.

/// Gives freed memory back to the system soon; its settings are in `.cargo/config.toml`.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    odradek::main()
}
