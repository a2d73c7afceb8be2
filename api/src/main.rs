//! The `odradek` program.

fn main() {}
