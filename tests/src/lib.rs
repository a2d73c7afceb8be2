//! Odradek's tests: see `README.md` beside this package for what runs where.
//!
//! The package holds no code of the product. `tidy/` is the only Rust test in it; the suites that
//! drive the real binary are Python (`suites/`), because the clients that they prove are.
