//! How a test finds the fake driver, starts it anew and reads what was called.
#![allow(unsafe_code, reason = "the shared library is loaded to be steered; each block says why its call is sound")]

use crate::Config;
use libloading::Library;
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The library holds one GPU, so tests of one process take turns.
static TURN: Mutex<()> = Mutex::new(());

/// The shared library, loaded; other tests of the process wait until it is dropped.
pub struct Fake {
    library: Library,
    path: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Fake {
    /// Where cargo puts the shared library: beside the running test, or one folder up.
    #[must_use]
    pub fn path() -> PathBuf {
        let exe = std::env::current_exe().unwrap_or_default();
        let name = format!("{}tahoma_fake_cuda{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        let folders = exe.ancestors().skip(1).take(3);
        folders.flat_map(|f| [f.join(&name), f.join("deps").join(&name)]).find(|p| p.is_file()).unwrap_or_else(|| exe.with_file_name(name))
    }

    /// Loads the library and starts it anew with the words of [`Config`]. Panics where it is not built or a word is wrong: this is
    /// for tests.
    #[must_use]
    pub fn start(words: &str) -> Fake {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let path = Fake::path();
        // SAFETY: the library is this crate; it has no initialisers.
        let library = unsafe { Library::new(&path) }.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let fake = Fake { library, path, _turn: turn };
        fake.restart(words);
        fake
    }

    /// Forgets everything and starts with other words.
    pub fn restart(&self, words: &str) {
        Config::parse(words).unwrap_or_else(|e| panic!("{e}"));
        let words = CString::new(words).unwrap_or_default();
        // SAFETY: `fakeStart` of this crate has this signature and reads a zero-terminated string.
        unsafe {
            let start = self.library.get::<unsafe extern "C" fn(*const std::ffi::c_char)>(b"fakeStart\0").expect("of this crate");
            start(words.as_ptr());
        }
    }

    /// The file to load in libcuda's place.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.path.clone()
    }

    /// What was called since the start.
    #[must_use]
    pub fn log(&self) -> Log {
        // SAFETY: `fakeLog` of this crate has this signature; it writes at most as many bytes as it is told there are, and returns how
        // many there would be.
        let text = unsafe {
            let log = self.library.get::<unsafe extern "C" fn(*mut u8, usize) -> usize>(b"fakeLog\0").expect("of this crate");
            let mut text = vec![0u8; log(std::ptr::null_mut(), 0)];
            let n = log(text.as_mut_ptr(), text.len());
            text.truncate(n);
            text
        };
        Log::parse(&String::from_utf8_lossy(&text))
    }
}

/// One call of the driver.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub name: String,
    /// What it was given or gave: `at=4096`, `bytes=16`, `kernel=k0`.
    pub args: Vec<(String, String)>,
    /// Its result.
    pub code: u32,
}

impl Call {
    /// A number among the arguments; 0 where there is none of that name.
    #[must_use]
    pub fn number(&self, key: &str) -> u64 {
        self.text(key).parse().unwrap_or(0)
    }
    /// An argument as text.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.args.iter().find(|a| a.0 == key).map_or("", |a| &a.1)
    }
}

/// What was called, what was done wrong, and what is left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    pub calls: Vec<Call>,
    pub violations: Vec<String>,
    /// Allocations, modules, events and contexts that are still there.
    pub left: Vec<String>,
}

impl Log {
    /// Reads what the library writes: a line a call, `NAME key=value … = CODE`, then lines of violations and of what is left.
    #[must_use]
    pub fn parse(text: &str) -> Log {
        let mut log = Log::default();
        for line in text.lines() {
            if let Some(v) = line.strip_prefix("violation: ") {
                log.violations.push(v.into());
            } else if let Some(l) = line.strip_prefix("left: ") {
                log.left.push(l.into());
            } else if let Some((call, code)) = line.rsplit_once(" = ") {
                let mut words = call.split(' ');
                let name = words.next().unwrap_or_default().to_string();
                let args = words.filter_map(|w| w.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
                log.calls.push(Call { name, args, code: code.parse().unwrap_or(u32::MAX) });
            }
        }
        log
    }
    /// How often a function was called.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.calls.iter().filter(|c| c.name == name).count()
    }
    /// The calls of a function.
    pub fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Call> {
        self.calls.iter().filter(move |c| c.name == name)
    }
}
