//! How much memory a piece of work took, counted by the allocator of the whole process.

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What the work made, and the most bytes that it held at once. Right only while no other thread
/// allocates: the fuzzer has one, and the ordinary test runs one target at a time.
pub fn peak_bytes<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let made = work();
    (made, ALLOCATOR.peak_usage().saturating_sub(before))
}
