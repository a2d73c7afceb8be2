//! The binary `odradek`.

mod operations;

fn main() {}
