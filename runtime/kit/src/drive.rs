//! Workers: processes of this same program, each with the cases that are left, so that a case that breaks the card's context, crashes
//! or hangs costs itself and nothing else.

use crate::format::{Case, Outcome, Status};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Bytes of a worker's error output that are kept.
const SAID: usize = 2000;

/// A worker process and how it is started.
pub struct Workers<'a> {
    /// This program.
    pub program: &'a Path,
    /// Arguments before the names of the cases.
    pub args: Vec<String>,
    pub images: &'static str,
    /// Longest that one case may take.
    pub each: Duration,
    /// No case is begun after this.
    pub until: Instant,
}

impl Workers<'_> {
    /// Runs cases in order; `done` is told of each as it ends.
    pub fn run(&self, cases: &[&Case], done: &mut dyn FnMut(&Outcome)) -> Vec<Outcome> {
        let mut all: Vec<Outcome> = vec![];
        while all.len() < cases.len() {
            if Instant::now() >= self.until {
                let late = |c: &&Case| Outcome::failed(c, self.images, Status::Late, "the time was over; --seconds gives more");
                all.extend(cases[all.len()..].iter().map(late));
                break;
            }
            self.worker(cases, &mut all, done);
        }
        all
    }

    /// One worker, until it ends: at least one case is done then, with an error of its own or of the worker's.
    fn worker(&self, cases: &[&Case], all: &mut Vec<Outcome>, done: &mut dyn FnMut(&Outcome)) {
        let begun = all.len();
        let mut push = |all: &mut Vec<Outcome>, o: Outcome| {
            done(&o);
            all.push(o);
        };
        let mut command = Command::new(self.program);
        command.args(&self.args).args(cases[begun..].iter().map(|c| &c.name));
        let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
            Ok(c) => c,
            Err(e) => {
                let why = format!("cannot start {}: {e}", self.program.display());
                return push(all, Outcome::failed(cases[begun], self.images, Status::Error, why));
            }
        };
        let (send, lines) = mpsc::channel();
        let out = child.stdout.take();
        let reader = std::thread::spawn(move || {
            for line in out.into_iter().flat_map(|o| BufReader::new(o).lines()).map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let err = child.stderr.take();
        let said = std::thread::spawn(move || {
            let mut text = vec![];
            let _ = err.map(|mut e| e.read_to_end(&mut text));
            String::from_utf8_lossy(&text[text.len().saturating_sub(SAID)..]).trim().to_string()
        });
        let mut hung = false;
        while all.len() < cases.len() {
            match lines.recv_timeout(self.each) {
                Ok(line) => match serde_json::from_str::<Outcome>(&line) {
                    Ok(o) if o.name == cases[all.len()].name => push(all, o),
                    _ => {}
                },
                Err(RecvTimeoutError::Timeout) => {
                    hung = true;
                    break;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= self.until {
                break;
            }
        }
        let status = end(&mut child, all.len() < cases.len() && (hung || Instant::now() >= self.until));
        let _ = reader.join();
        let said = said.join().unwrap_or_default();
        // A worker ends by itself after a case that it told as an error.
        let told = all.len() > begun && all.last().is_some_and(|o| o.status == Status::Error);
        let late = Instant::now() >= self.until && !hung && all.len() > begun;
        if all.len() < cases.len() && !told && !late {
            let why = if hung { format!("no result in {} s", self.each.as_secs()) } else { format!("its process ended: {status}") };
            let why = if said.is_empty() { why } else { format!("{why}; {said}") };
            push(all, Outcome::failed(cases[all.len()], self.images, Status::Error, why));
        }
    }
}

/// Waits for a worker, or ends it first; how it ended.
fn end(child: &mut Child, kill: bool) -> String {
    if kill {
        let _ = child.kill();
    }
    child.wait().map_or_else(|e| e.to_string(), |s| s.to_string())
}
