//! The binary `odradek`.

mod console;
mod exporter;
mod http;
mod operations;
mod process;
mod services;

fn main() {}
