//! The command `tahoma-kit`: runs a kit, or the cases of one worker.

use clap::{Parser, Subcommand};
use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};
use tahoma_core::Diagnostic;
use tahoma_kit::drive::Workers;
use tahoma_kit::format::{Case, Kind, Kit, Outcome, Status, Value};
use tahoma_kit::report::Results;
use tahoma_kit::tools::{self, Check};
use tahoma_kit::worker::{self, How};
use tahoma_runtime::cuda::{self, Options, chip};
use tahoma_runtime::npy;

/// Runs compiled models on the GPU of this machine, compares them with what is expected and times them.
///
/// Exit codes: 0 everything is right, 1 something is not (the table says what), 2 nothing could be run (no GPU, a damaged kit, wrong
/// usage).
#[derive(Parser)]
#[command(version, about, long_about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run all cases of a kit and write results.json and results.md
    Run {
        /// The kit's folder
        #[arg(default_value = ".")]
        kit: PathBuf,
        /// Begin no case after so many seconds
        #[arg(long, default_value_t = 270)]
        seconds: u64,
        /// A case that takes longer than so many seconds has failed
        #[arg(long, default_value_t = 60)]
        case_seconds: u64,
        /// Only cases whose name has this in it
        #[arg(long, default_value = "")]
        only: String,
        /// Run each case once and time one more run
        #[arg(long)]
        quick: bool,
        /// Leave out the runs with cubins
        #[arg(long)]
        ptx_only: bool,
        /// Leave out compute-sanitizer and torch
        #[arg(long)]
        no_tools: bool,
        /// The Python that has torch
        #[arg(long, default_value = "python3")]
        python: String,
        /// Where the results go
        #[arg(short, long, default_value = "results")]
        output: PathBuf,
    },
    /// Run cases in this process, one line of JSON each (what `run` starts)
    #[command(hide = true)]
    Worker {
        kit: PathBuf,
        #[arg(long)]
        target: String,
        #[arg(long)]
        cubins: bool,
        /// Timed runs at most
        #[arg(long, default_value_t = 50)]
        runs: usize,
        names: Vec<String>,
    },
    /// List the cases of a kit
    List {
        #[arg(default_value = ".")]
        kit: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run { kit, seconds, case_seconds, only, quick, ptx_only, no_tools, python, output } => {
            let python = if no_tools { None } else { Some(python.as_str()) };
            run(&kit, [seconds, case_seconds], &only, quick, ptx_only, python, &output)
        }
        Command::Worker { kit, target, cubins, runs, names } => work(&kit, target, cubins, runs, &names),
        Command::List { kit } => list(&kit),
    };
    done.map_or_else(
        |d| {
            // Where standard error is closed or full, there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{d}");
            ExitCode::from(2)
        },
        |good| if good { ExitCode::SUCCESS } else { ExitCode::from(1) },
    )
}

/// A line on standard output. A reader that has gone has read enough; any other failure is E0702.
fn say(line: Arguments) -> Result<(), Diagnostic> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Diagnostic::error("E0702", format!("cannot write to standard output: {e}")).caused_by(e))
        }
        _ => Ok(()),
    }
}

fn list(kit: &Path) -> Result<bool, Diagnostic> {
    let kit = Kit::load(kit)?;
    say(format_args!("{} cases for {}", kit.cases.len(), kit.targets.join(", ")))?;
    for c in &kit.cases {
        say(format_args!("{:?}  {}", c.kind, c.name))?;
    }
    Ok(true)
}

fn work(dir: &Path, target: String, cubins: bool, runs: usize, names: &[String]) -> Result<bool, Diagnostic> {
    let kit = Kit::read(dir)?;
    let how = How { target, cubins, time: Duration::from_millis(400), most: runs, library: None };
    let mut good = true;
    for name in names {
        let o = worker::run(dir, kit.case(name)?, &how);
        let line = serde_json::to_string(&o).map_err(|e| Diagnostic::error("E0901", e.to_string()).caused_by(e))?;
        say(format_args!("{line}"))?;
        good &= o.status == Status::Pass;
        // The card's context may be broken now.
        if o.status == Status::Error {
            break;
        }
    }
    Ok(good)
}

fn run(
    dir: &Path,
    [seconds, case_seconds]: [u64; 2],
    only: &str,
    quick: bool,
    ptx_only: bool,
    python: Option<&str>,
    output: &Path,
) -> Result<bool, Diagnostic> {
    let start = Instant::now();
    let unix_seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let kit = Kit::load(dir)?;
    let card = cuda::card(&Options::default())?;
    let target = chip::best(card.capability, kit.targets.iter().map(String::as_str)).ok_or_else(|| {
        let (a, b) = card.capability;
        Diagnostic::error("E0611", format!("the kit has nothing for {} (compute capability {a}.{b})", card.name))
            .note(format!("it was made for {}", kit.targets.join(", ")))
    })?;
    say(format_args!("{}, compute capability {}.{}: kernels for {target}", card.name, card.capability.0, card.capability.1))?;
    let fail =
        |what: &str, p: &Path, e: std::io::Error| Diagnostic::error("E0702", format!("cannot {what} {}: {e}", p.display())).caused_by(e);
    std::fs::create_dir_all(output).map_err(|e| fail("make", output, e))?;
    let program = std::env::current_exe().map_err(|e| fail("find", Path::new("this program"), e))?;
    let chosen: Vec<&Case> = kit.cases.iter().filter(|c| c.name.contains(only)).collect();
    if chosen.is_empty() {
        return Err(Diagnostic::error("E0701", format!("no case has {only:?} in its name")));
    }
    let until = start + Duration::from_secs(seconds);
    let args = |cubins: bool| {
        let mut a: Vec<String> = ["worker", &dir.to_string_lossy(), "--target", target].map(str::to_string).into();
        a.extend(cubins.then(|| "--cubins".to_string()));
        a
    };
    let mut cases: Vec<Outcome> = vec![];
    let mut count = 0;
    // Whatever the driver's compiler does, cubins are what ptxas made.
    let with_cubins = !ptx_only && chip::runs_cubin(target, card.capability);
    for cubins in [false, true] {
        let these: Vec<&Case> = chosen.iter().copied().filter(|c| !cubins || (with_cubins && c.cubins)).collect();
        let mut a = args(cubins);
        if quick {
            a.extend(["--runs".into(), "1".into()]);
        }
        let images = if cubins { "cubin" } else { "ptx" };
        let workers = Workers { program: &program, args: a, images, each: Duration::from_secs(case_seconds), until };
        cases.extend(workers.run(&these, &mut |o| {
            count += 1;
            // What matters is written to files.
            if o.status == Status::Pass {
                let _ = say(format_args!("{count:4}  {:<44} {images:5}  {:10.1} us", o.name, o.device_us[0]));
            } else {
                let _ = say(format_args!(
                    "{count:4}  {:<44} {images:5}  {:?}: {}",
                    o.name,
                    o.status,
                    o.detail.lines().next().unwrap_or_default()
                ));
            }
        }));
    }
    let (sanitizers, (torch, torch_rows)) = match python {
        None => {
            let skip = |tool: &str| Check::skipped(tool, "--no-tools");
            (["memcheck", "racecheck"].map(|t| skip(&format!("compute-sanitizer --tool {t}"))).to_vec(), (skip("torch"), vec![]))
        }
        Some(python) => {
            let forms: Vec<Case> = chosen.iter().map(|c| (*c).clone()).collect();
            let each = seconds.saturating_sub(start.elapsed().as_secs()) / 3 + 10;
            let checks = ["memcheck", "racecheck"].map(|t| tools::sanitizer(t, &program, &args(false), &forms, each));
            let inputs = output.join("inputs");
            for c in chosen.iter().filter(|c| c.kind == Kind::Bench) {
                write_inputs(dir, c, &inputs.join(&c.name))?;
            }
            let said = tools::torch(python, dir, &inputs);
            // Drawn inputs are large and can be drawn again.
            let _ = std::fs::remove_dir_all(&inputs);
            (checks.to_vec(), said)
        }
    };
    let results = Results {
        producer: kit.producer.clone(),
        unix_seconds,
        command: std::env::args().collect::<Vec<_>>().join(" "),
        card,
        target: target.into(),
        seconds: start.elapsed().as_secs_f64(),
        totals: Results::totals(&cases),
        cases,
        torch,
        torch_rows,
        sanitizers,
        left_out: kit.left_out.clone(),
    };
    let json = serde_json::to_string_pretty(&results).map_err(|e| Diagnostic::error("E0901", e.to_string()).caused_by(e))?;
    for (name, text) in [("results.json", json), ("results.md", results.table(&kit))] {
        let path = output.join(name);
        std::fs::write(&path, text).map_err(|e| fail("write", &path, e))?;
    }
    for c in results.sanitizers.iter().chain([&results.torch]) {
        say(format_args!("{}: {} {}", c.tool, c.status, c.detail))?;
    }
    let t = &results.totals;
    say(format_args!("{} of {} cases pass; {}", t["pass"], t["cases"], output.join("results.md").display()))?;
    Ok(results.good())
}

/// Inputs of a case as `.npy` files, by position, with their names in `names.json`.
fn write_inputs(dir: &Path, case: &Case, to: &Path) -> Result<(), Diagnostic> {
    let fail = |e: std::io::Error| Diagnostic::error("E0702", format!("cannot write {}: {e}", to.display())).caused_by(e);
    std::fs::create_dir_all(to).map_err(fail)?;
    let mut names = vec![];
    for (i, input) in case.inputs.iter().enumerate() {
        let file = format!("{i}.npy");
        match &input.value {
            Value::File { path, .. } => std::fs::copy(dir.join(path), to.join(&file)).map(|_| ()).map_err(fail)?,
            Value::Drawn { .. } => npy::write(&to.join(&file), &worker::value(dir, input)?)?,
        }
        names.push((input.name.clone(), file));
    }
    let text = serde_json::to_string(&names).map_err(|e| Diagnostic::error("E0901", e.to_string()).caused_by(e))?;
    std::fs::write(to.join("names.json"), text).map_err(fail)
}
