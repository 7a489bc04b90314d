//! The fake GPU behind the calls: what is alive, what is queued, what was done wrong.

use crate::Config;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write;
use std::sync::Arc;
use tahoma_sim::ptx::{Arg, Memory, Module, Options, launch};

pub(crate) const INVALID_VALUE: u32 = 1;
pub(crate) const OUT_OF_MEMORY: u32 = 2;
pub(crate) const NOT_INITIALIZED: u32 = 3;
pub(crate) const NO_DEVICE: u32 = 100;
pub(crate) const INVALID_DEVICE: u32 = 101;
pub(crate) const INVALID_CONTEXT: u32 = 201;
pub(crate) const INVALID_HANDLE: u32 = 400;
pub(crate) const NOT_FOUND: u32 = 500;
pub(crate) const NOT_READY: u32 = 600;
const ILLEGAL_ADDRESS: u32 = 700;
/// Dynamic shared memory that a kernel has without asking.
const FREE_SHARED: u32 = 48 << 10;

/// A launch, a copy within the device or a point in time that waits in the stream.
enum Work {
    Launch { module: Arc<Module>, kernel: String, grid: [u32; 3], block: [u32; 3], shared: u32, args: Vec<Arg> },
    Copy { to: u64, from: u64, bytes: u64 },
    Record(usize),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum EventState {
    Created,
    Queued,
    At(u64),
}

struct Function {
    module: usize,
    kernel: String,
    shared: u32,
}

#[derive(Default)]
pub(crate) struct Gpu {
    pub(crate) config: Config,
    pub(crate) initialised: bool,
    /// The context's handle while it is retained, and how often it is.
    pub(crate) context: usize,
    retained: usize,
    memory: Memory,
    allocations: BTreeMap<u64, u64>,
    modules: HashMap<usize, Arc<Module>>,
    functions: HashMap<usize, Function>,
    events: HashMap<usize, EventState>,
    queue: VecDeque<Work>,
    sticky: Option<u32>,
    /// Instructions so far.
    clock: u64,
    handles: usize,
    calls: usize,
    copies: usize,
    lines: Vec<String>,
    violations: Vec<String>,
}

type Done<T> = Result<T, u32>;

impl Gpu {
    pub(crate) fn new(config: Config) -> Gpu {
        Gpu { config, ..Gpu::default() }
    }

    /// Counts a call; the code that it fails with before doing anything.
    pub(crate) fn enter(&mut self, name: &str, current: Option<usize>) -> Done<()> {
        let n = self.calls;
        self.calls += 1;
        match (&self.config.fail, &self.config.fail_named) {
            (Some((i, code)), _) if *i == n => return Err(*code),
            (_, Some((which, code))) if which == name => return Err(*code),
            _ => {}
        }
        if name != "cuInit" && name != "cuDriverGetVersion" && !self.initialised {
            return Err(NOT_INITIALIZED);
        }
        if let Some(context) = current
            && (context == 0 || context != self.context)
        {
            return Err(self.wrong(INVALID_CONTEXT, format!("{name} on a thread without the context")));
        }
        match self.sticky {
            Some(code) if current.is_some() => Err(code),
            _ => Ok(()),
        }
    }

    pub(crate) fn note(&mut self, line: String) {
        self.lines.push(line);
    }

    fn wrong(&mut self, code: u32, what: String) -> u32 {
        self.violations.push(what);
        code
    }

    fn handle(&mut self) -> usize {
        self.handles += 1;
        self.handles << 8
    }

    /// Everything: calls, violations, what is left.
    pub(crate) fn text(&self) -> String {
        let mut text = self.lines.join("\n") + "\n";
        for v in &self.violations {
            let _ = writeln!(text, "violation: {v}");
        }
        for l in self.left() {
            let _ = writeln!(text, "left: {l}");
        }
        text
    }

    fn left(&self) -> Vec<String> {
        let mut left: Vec<String> = self.allocations.iter().map(|(a, n)| format!("{n} bytes at {a}")).collect();
        left.extend((0..self.modules.len()).map(|_| "a module".to_string()));
        left.extend((0..self.events.len()).map(|_| "an event".to_string()));
        left.extend((self.retained > 0).then(|| format!("a context, retained {} times", self.retained)));
        left
    }

    pub(crate) fn retain(&mut self) -> usize {
        if self.retained == 0 {
            self.context = self.handle();
        }
        self.retained += 1;
        self.context
    }

    /// Whether that was the last.
    pub(crate) fn release(&mut self) -> Done<bool> {
        if self.retained == 0 {
            return Err(self.wrong(INVALID_CONTEXT, "the context is released more often than retained".into()));
        }
        self.retained -= 1;
        if self.retained > 0 {
            return Ok(false);
        }
        self.queue.clear();
        // A context that failed takes all it has with it, and its error.
        if self.sticky.take().is_some() {
            (self.allocations, self.modules, self.events) = Default::default();
        }
        self.context = 0;
        Ok(true)
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.config.memory.saturating_sub(self.allocations.values().sum())
    }

    pub(crate) fn alloc(&mut self, bytes: u64) -> Done<u64> {
        if bytes == 0 {
            return Err(self.wrong(INVALID_VALUE, "an allocation of 0 bytes".into()));
        }
        if bytes > self.free_bytes() {
            return Err(OUT_OF_MEMORY);
        }
        let at = self.memory.alloc("an allocation", bytes).map_err(|_| OUT_OF_MEMORY)?;
        self.allocations.insert(at, bytes);
        Ok(at)
    }

    pub(crate) fn free(&mut self, at: u64) -> Done<()> {
        // Freeing waits for what was launched.
        self.drain()?;
        if self.allocations.remove(&at).is_none() {
            return Err(self.wrong(INVALID_VALUE, format!("{at} is freed and is no allocation")));
        }
        self.memory.free(at).map_err(|_| INVALID_VALUE)
    }

    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) -> Done<()> {
        self.drain()?;
        self.memory.write(at, bytes).map_err(|why| self.wrong(INVALID_VALUE, format!("copy to the device: {why}")))
    }

    pub(crate) fn read(&mut self, at: u64, bytes: u64) -> Done<Vec<u8>> {
        self.drain()?;
        let got = self.memory.read(at, bytes).map(<[u8]>::to_vec);
        let mut out = got.map_err(|why| self.wrong(INVALID_VALUE, format!("copy from the device: {why}")))?;
        if self.config.corrupt == Some(self.copies)
            && let Some(last) = out.last_mut()
        {
            *last ^= 0x40;
        }
        self.copies += 1;
        Ok(out)
    }

    pub(crate) fn copy(&mut self, to: u64, from: u64, bytes: u64) -> Done<()> {
        self.queue.push_back(Work::Copy { to, from, bytes });
        Ok(())
    }

    pub(crate) fn add_module(&mut self, module: Arc<Module>) -> usize {
        let h = self.handle();
        self.modules.insert(h, module);
        h
    }

    pub(crate) fn unload(&mut self, module: usize) -> Done<()> {
        self.drain()?;
        match self.modules.remove(&module) {
            Some(_) => Ok(()),
            None => Err(self.wrong(INVALID_HANDLE, "a module is unloaded that is not loaded".into())),
        }
    }

    pub(crate) fn function(&mut self, module: usize, name: &str) -> Done<usize> {
        let Some(m) = self.modules.get(&module) else {
            return Err(self.wrong(INVALID_HANDLE, "a function is asked of a module that is not loaded".into()));
        };
        if m.kernel(name).is_none() {
            return Err(NOT_FOUND);
        }
        let h = self.handle();
        self.functions.insert(h, Function { module, kernel: name.into(), shared: FREE_SHARED });
        Ok(h)
    }

    pub(crate) fn allow_shared(&mut self, function: usize, bytes: u32) -> Done<()> {
        match self.functions.get_mut(&function) {
            Some(f) => {
                f.shared = bytes;
                Ok(())
            }
            None => Err(self.wrong(INVALID_HANDLE, "an attribute of no function".into())),
        }
    }

    /// Module, kernel name and bytes of each parameter of a function.
    pub(crate) fn parameters(&mut self, function: usize) -> Done<(String, Vec<u64>)> {
        let found = self.functions.get(&function).and_then(|f| {
            let k = self.modules.get(&f.module)?.kernel(&f.kernel)?;
            Some((f.kernel.clone(), k.params.iter().map(|p| p.bytes).collect()))
        });
        found.ok_or_else(|| self.wrong(INVALID_HANDLE, "a launch of a function whose module is gone".into()))
    }

    pub(crate) fn launch(&mut self, function: usize, grid: [u32; 3], block: [u32; 3], shared: u32, args: Vec<Arg>) -> Done<()> {
        let Some(f) = self.functions.get(&function) else { return Err(INVALID_HANDLE) };
        if shared > f.shared || grid.contains(&0) || block.contains(&0) {
            return Err(INVALID_VALUE);
        }
        if self.config.crash.as_ref() == Some(&f.kernel) {
            eprintln!("fake cuda: a crash, as asked for");
            std::process::abort();
        }
        let (kernel, module) = (f.kernel.clone(), self.modules.get(&f.module).cloned().ok_or(INVALID_HANDLE)?);
        self.queue.push_back(Work::Launch { module, kernel, grid, block, shared, args });
        Ok(())
    }

    pub(crate) fn event(&mut self) -> usize {
        let h = self.handle();
        self.events.insert(h, EventState::Created);
        h
    }

    pub(crate) fn record(&mut self, event: usize) -> Done<()> {
        match self.events.get_mut(&event) {
            Some(e) => *e = EventState::Queued,
            None => return Err(self.wrong(INVALID_HANDLE, "no such event is recorded".into())),
        }
        self.queue.push_back(Work::Record(event));
        Ok(())
    }

    pub(crate) fn elapsed(&mut self, from: usize, to: usize) -> Done<f32> {
        match (self.events.get(&from), self.events.get(&to)) {
            // Milliseconds, as the driver counts.
            (Some(EventState::At(a)), Some(EventState::At(b))) => Ok(b.saturating_sub(*a) as f32 * 1e-6),
            (Some(EventState::Created), _) | (_, Some(EventState::Created)) => {
                Err(self.wrong(INVALID_HANDLE, "the time of an event that was not recorded".into()))
            }
            (Some(_), Some(_)) => Err(self.wrong(NOT_READY, "the time of an event that nobody waited for".into())),
            _ => Err(self.wrong(INVALID_HANDLE, "the time of no event".into())),
        }
    }

    pub(crate) fn destroy_event(&mut self, event: usize) -> Done<()> {
        match self.events.remove(&event) {
            Some(_) => Ok(()),
            None => Err(self.wrong(INVALID_HANDLE, "an event is destroyed that is not there".into())),
        }
    }

    /// Runs what is queued. The first fault stays.
    pub(crate) fn drain(&mut self) -> Done<()> {
        while let Some(work) = self.queue.pop_front() {
            match work {
                Work::Record(e) => {
                    // An event may be destroyed before the stream comes to it.
                    if let Some(e) = self.events.get_mut(&e) {
                        *e = EventState::At(self.clock);
                    }
                }
                Work::Copy { to, from, bytes } => {
                    let moved = self.memory.read(from, bytes).map(<[u8]>::to_vec).and_then(|b| self.memory.write(to, &b));
                    if let Err(e) = moved {
                        self.sticky = Some(self.wrong(ILLEGAL_ADDRESS, format!("copy within the device: {e}")));
                    }
                }
                Work::Launch { module, kernel, grid, block, shared, args } => {
                    let checks = Options { races: self.config.checks, uninitialised: self.config.checks, ..Options::default() };
                    match launch(&module, &kernel, grid, block, shared, &args, &mut self.memory, &checks) {
                        Ok(stats) => self.clock += stats.instructions().max(1),
                        Err(fault) => {
                            eprintln!("fake cuda: {fault}");
                            self.note(format!("fault kernel={kernel} = {ILLEGAL_ADDRESS}"));
                            self.queue.clear();
                            self.sticky = Some(ILLEGAL_ADDRESS);
                        }
                    }
                }
            }
        }
        self.sticky.map_or(Ok(()), Err)
    }
}
