//! How much memory there is, asked before it is taken: an allocation that fails ends the process, so a model that wants too much must be
//! refused before.
//!
//! ```text
//! free = the least of   MemAvailable of /proc/meminfo
//!                       limit - use of the control group and those around it (files in the page cache do not count)
//!                       limit of the address space - its size (ulimit -v)
//! ```
//!
//! Small requests are added up, and the system is asked each time they reach 64 MiB, so asking costs nothing. What is refused depends on
//! the machine; what is computed never does.

use crate::op::OpError;
use std::fmt::Display;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests that are not looked at one by one, in bytes.
const LOOK: u64 = 64 << 20;
/// Left for what is not asked for: stacks, scratch of kernels, tables.
const KEEP: u64 = 128 << 20;
/// Free memory where the system does not say.
const UNKNOWN: u64 = 8 << 30;

/// Bytes asked for since the last look.
static SINCE: AtomicU64 = AtomicU64::new(0);

/// Whether so many bytes may be taken. E0609, with what is wanted and what is free.
pub fn ask(bytes: u64, what: &dyn Display) -> Result<(), OpError> {
    if SINCE.fetch_add(bytes.min(LOOK), Ordering::Relaxed) + bytes.min(LOOK) < LOOK {
        return Ok(());
    }
    SINCE.store(0, Ordering::Relaxed);
    let free = available();
    if bytes.saturating_add(KEEP) <= free {
        return Ok(());
    }
    Err(OpError::new("E0609", format!("{what} needs {bytes} bytes of memory, {free} are available"))
        .note("smaller extents, a machine with more memory, or a higher limit of the container help"))
}

/// [`ask`] for a tensor of so many elements on the host; the sum overflows nowhere.
pub fn ask_elements(elements: u64, bytes_each: u64, what: &dyn Display) -> Result<(), OpError> {
    ask(elements.saturating_mul(bytes_each), what)
}

/// Bytes that this process may still take, as the system says now.
pub fn available() -> u64 {
    let read = |p: &Path| std::fs::read_to_string(p).ok();
    of_system(&read).unwrap_or(UNKNOWN)
}

type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

fn of_system(read: Read) -> Option<u64> {
    let machine = field(&read(Path::new("/proc/meminfo"))?, "MemAvailable:").map(|kb| kb.saturating_mul(1024));
    [machine, group(read), address_space(read)].into_iter().flatten().min()
}

/// The number behind a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// What is left of the tightest control group that this process is in (version 2: one file for each level; version 1: one for all).
fn group(read: Read) -> Option<u64> {
    let number = |dir: &Path, name: &str| read(&dir.join(name))?.trim().parse::<u64>().ok();
    let left = |dir: &Path, limit: &str, used: &str, cache: &str| {
        let used = number(dir, used)?;
        let files = read(&dir.join("memory.stat")).and_then(|t| field(&t, cache)).unwrap_or(0);
        Some(number(dir, limit)?.saturating_sub(used.saturating_sub(files)))
    };
    let own = read(Path::new("/proc/self/cgroup"))?;
    let of = |line: &str| -> Option<u64> {
        let mut parts = line.splitn(3, ':').skip(1);
        let (kinds, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        if kinds.is_empty() {
            let root = Path::new("/sys/fs/cgroup");
            let inner = root.join(path);
            let levels = inner.ancestors().take_while(|d| d.starts_with(root));
            return levels.filter_map(|d| left(d, "memory.max", "memory.current", "inactive_file ")).min();
        }
        if !kinds.split(',').any(|k| k == "memory") {
            return None;
        }
        let root = Path::new("/sys/fs/cgroup/memory");
        let v1 = |d: &Path| left(d, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ");
        // In a container the path is the host's, and the group is mounted at the root.
        v1(&root.join(path)).or_else(|| v1(root))
    };
    own.lines().filter_map(of).min()
}

/// What `ulimit -v` leaves.
fn address_space(read: Read) -> Option<u64> {
    let limit = field(&read(Path::new("/proc/self/limits"))?, "Max address space")?;
    // In pages of 4 KiB: on machines with larger ones this is too generous, never too strict.
    let pages: u64 = read(Path::new("/proc/self/statm"))?.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(pages.saturating_mul(4096)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(files: &'static [(&'static str, &'static str)]) -> Option<u64> {
        of_system(&|p: &Path| files.iter().find(|f| Path::new(f.0) == p).map(|f| f.1.to_string()))
    }

    const MEMINFO: (&str, &str) = ("/proc/meminfo", "MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable:   10 kB\n");

    #[test]
    fn the_tightest_limit_counts() {
        assert_eq!(system(&[]), None);
        assert_eq!(system(&[MEMINFO]), Some(10240));
        let v2 = [
            MEMINFO,
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/b/memory.current", "7000\n"),
            ("/sys/fs/cgroup/a/memory.max", "8000\n"),
            ("/sys/fs/cgroup/a/memory.current", "7000\n"),
            ("/sys/fs/cgroup/a/memory.stat", "anon 5\ninactive_file 500\n"),
        ];
        assert_eq!(of_system(&|p| v2.iter().find(|f| Path::new(f.0) == p).map(|f| f.1.to_string())), Some(1500));
        let v1 = [
            MEMINFO,
            ("/proc/self/cgroup", "3:cpu:/x\n2:memory:/docker/x\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9000"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1000"),
        ];
        assert_eq!(of_system(&|p| v1.iter().find(|f| Path::new(f.0) == p).map(|f| f.1.to_string())), Some(8000));
        let ulimit = [
            MEMINFO,
            ("/proc/self/limits", "Limit  Soft Limit Hard Limit Units\nMax address space  9000 unlimited bytes\n"),
            ("/proc/self/statm", "2 1 1 1 0 1 0"),
        ];
        assert_eq!(of_system(&|p| ulimit.iter().find(|f| Path::new(f.0) == p).map(|f| f.1.to_string())), Some(808));
    }

    #[test]
    fn what_the_machine_does_not_have_is_refused_with_both_numbers() {
        let e = ask(u64::MAX, &"a value").unwrap_err();
        assert_eq!(e.code, "E0609");
        assert!(e.message.contains(&u64::MAX.to_string()) && e.message.contains("are available"), "{}", e.message);
        assert!(available() > 0);
        // Many small requests come to a large one.
        assert!((0..1000).all(|_| ask(LOOK / 100, &"a value").is_ok()));
    }
}
