//! The worker threads of everything that runs in parallel: as many as the machine has cores, or as `RAYON_NUM_THREADS` says within reason.

use std::sync::Once;

/// Most threads for each core: more only cost memory.
const PER_CORE: usize = 4;
/// Stack of a worker, in bytes.
const STACK: usize = 8 << 20;

/// Starts the workers once, before something else starts them without a bound. Where the process has workers already, they stay.
pub fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let asked = std::env::var("RAYON_NUM_THREADS").ok();
        let workers = || rayon::ThreadPoolBuilder::new().stack_size(STACK);
        // A system that gives no more threads gives the one that is there.
        if workers().num_threads(count(asked.as_deref(), cores)).build_global().is_err() {
            let _ = workers().num_threads(1).use_current_thread().build_global();
        }
    });
}

/// How many for what the user asked: a number is taken up to four for each core; 0 and what is no number are the cores.
fn count(asked: Option<&str>, cores: usize) -> usize {
    match asked.and_then(|a| a.trim().parse::<usize>().ok()) {
        None | Some(0) => cores,
        Some(n) => n.min(cores.saturating_mul(PER_CORE)),
    }
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn no_number_is_too_large() {
        let all = [("1", 1), ("3", 3), ("100000", 8), ("18446744073709551615", 8), ("0", 2), ("-1", 2), ("x", 2), ("", 2)];
        all.iter().for_each(|(a, n)| assert_eq!(count(Some(a), 2), *n, "{a}"));
        assert_eq!(count(None, 2), 2);
    }
}
