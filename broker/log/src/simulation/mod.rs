//! The log under a seed: random appends over partitions, steps in random order, crashes at any
//! point with lost and torn writes, failed syncs, full disks, views of any age; and a checker that
//! knows what was acknowledged.
//!
//! `ODRADEK_LOG_SEED=n` runs one seed, `ODRADEK_LOG_SEEDS=n` so many of them.

mod compacted;
mod direct;
mod each_operation;
mod faults;
mod flights;
mod forgetful;
mod growth;
mod rot;
mod rounds;
mod stores;
mod world;

/// Runs the seeds; the one that failed is the last that the output names.
fn each_seed(name: &str, count: u64, run: impl Fn(u64)) {
    let number = |key: &str| std::env::var(key).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("ODRADEK_LOG_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ODRADEK_LOG_SEEDS").unwrap_or(count),
    };
    for seed in seeds {
        println!("{name}: seed {seed}");
        run(seed);
    }
}
