//! Every flag of every command with wrong values, and odd environments: an exit code and words, never a panic, a signal, or 10 s of CPU.

use std::path::Path;
use std::process::Command;

/// Values that no flag means, beside what some flag does mean somewhere else.
const VALUES: &[&str] = &[
    "",
    "=",
    "x",
    "x=",
    "=1",
    "-1",
    "--",
    "0",
    "1e99",
    "NaN",
    "18446744073709551616",
    "x=18446744073709551615",
    "x=4294967296x4294967296",
    "x=0x0",
    "x=-1x3",
    "x=1x2x3x4x5x6x7x8x9",
    "x=\u{1b}[31m",
    "x=/dev/zero",
    "x=/dev/null",
    "x=.",
    "x=m.mlir",
    "/",
    "/dev/null",
    "/dev/full",
    "no/such/folder",
    "m.mlir",
    ",",
    ",,,",
    "eqsat,eqsat,nothing",
    "\u{202e}\r\n",
    "..\u{0}",
    "trn2",
    "interp",
    "import",
];

const MODEL: &str = r#"
func.func @main(%x: tensor<2x3xf32>) -> tensor<2x3xf32> attributes {ml.inputs = ["x"], ml.outputs = ["y"]} {
  %0 = "ml.relu"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %0 : tensor<2x3xf32>
}
"#;

/// What each command needs before a flag means anything.
const COMMANDS: &[(&str, &[&str])] = &[
    ("compile", &["m.mlir"]),
    ("run", &["m.mlir"]),
    ("verify", &["m.mlir"]),
    ("conformance", &["."]),
    ("opt", &["m.mlir"]),
    ("explain", &["m.mlir"]),
];

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Ran {
    // The shell's limit ends what takes 10 s of CPU; what is written stays below 64 MB.
    let script = "ulimit -t 10; ulimit -f 131072; exec \"$0\" \"$@\"";
    let binary = env!("CARGO_BIN_EXE_tahoma");
    let out = Command::new("sh").args(["-c", script, binary]).args(args).envs(env.iter().copied()).current_dir(dir).output().unwrap();
    let text = |b: Vec<u8>| String::from_utf8_lossy(&b).into_owned();
    Ran { code: out.status.code(), out: text(out.stdout), err: text(out.stderr) }
}

/// What is wrong with how a command ended, if anything is.
fn wrong(r: &Ran) -> Option<String> {
    let fault = ["E0901", "panicked", "overflow", "RUST_BACKTRACE"].iter().find(|w| r.err.contains(**w));
    let shown = |text: &str| text == tahoma_core::escape::lines(text);
    match r.code {
        Some(0..=4) if fault.is_none() && shown(&r.err) && shown(&r.out) => None,
        _ => Some(format!("exit {:?}: {}", r.code, r.err.chars().take(400).collect::<String>())),
    }
}

/// Flags of a command as its help lists them, and whether each takes a value.
fn flags(dir: &Path, command: &str) -> Vec<(String, bool)> {
    let help = run(dir, &[command, "--help"], &[]).out;
    let flag = |l: &str| {
        let at = l.find("--").filter(|_| l.trim_start().starts_with('-'))?;
        let name: String = l[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        Some((name.clone(), l[at + name.len()..].trim_start().starts_with('<')))
    };
    help.lines().filter_map(flag).filter(|f| f.0 != "--help").collect()
}

/// `TAHOMA_FLAG_VALUES=34` tries all values; an ordinary test two of each flag.
#[test]
fn no_flag_has_a_value_that_ends_in_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("m.mlir"), MODEL).unwrap();
    let each = std::env::var("TAHOMA_FLAG_VALUES").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    let (mut found, mut runs, mut turn) = (vec![], 0, 0);
    for (command, needs) in COMMANDS {
        let all = flags(dir.path(), command);
        assert!(all.len() > 1, "{command}");
        for (flag, valued) in all {
            for _ in 0..if valued { each } else { 1 } {
                turn += 1;
                let value = VALUES[turn * 5 % VALUES.len()];
                // A zero byte cannot be in an argument.
                let value = value.replace('\0', "");
                let mut args = vec![*command];
                args.extend(*needs);
                args.push(&flag);
                if valued {
                    args.push(&value);
                }
                // With everything else in order, so that the value is what is wrong.
                let rest: &[(&str, &[&str])] = &[
                    ("--target", &["--target", "trn2"]),
                    ("--output", &["-o", "out"]),
                    ("--output-dir", &["--output-dir", "results"]),
                    ("--input", &["--input", "x=x.npy"]),
                ];
                let more = match *command {
                    "compile" => &rest[..2],
                    "verify" => &rest[..1],
                    "run" => &rest[2..],
                    _ => &rest[..0],
                };
                more.iter().filter(|r| r.0 != flag).for_each(|r| args.extend(r.1));
                let r = run(dir.path(), &args, &[]);
                runs += 1;
                found.extend(wrong(&r).map(|w| format!("tahoma {}: {w}", args.join(" ").escape_debug())));
                let _ = std::fs::remove_dir_all(dir.path().join("out"));
            }
        }
    }
    assert!(runs > 60, "{runs} runs");
    assert!(found.is_empty(), "{} of {runs}:\n{}", found.len(), found.join("\n"));
}

#[test]
fn no_environment_ends_in_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("m.mlir"), MODEL).unwrap();
    let all = [
        ("RAYON_NUM_THREADS", "100000"),
        ("RAYON_NUM_THREADS", "18446744073709551615"),
        ("RAYON_NUM_THREADS", "-1"),
        ("RAYON_RS_NUM_CPUS", "100000"),
        ("RUST_MIN_STACK", "1099511627776"),
        ("RUST_MIN_STACK", "1"),
        ("TAHOMA_LOG", "=,=[[{{"),
        ("TAHOMA_LOG", "trace"),
        ("COLUMNS", "0"),
        ("LANG", "\u{1b}[31m"),
    ];
    for (name, value) in all {
        let r = run(dir.path(), &["verify", "m.mlir", "--target", "trn2"], &[(name, value)]);
        assert_eq!((r.code, wrong(&r)), (Some(0), None), "{name}={value}");
    }
    // The artifact that is verified has to be written somewhere.
    let r = run(dir.path(), &["verify", "m.mlir", "--target", "trn2"], &[("TMPDIR", "/no/such/folder")]);
    assert_eq!((r.code, wrong(&r)), (Some(1), None));
}

/// A field of protobuf with bytes in it.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut n) = (vec![number << 3 | 2], bytes.len());
    while n > 127 {
        out.push(n as u8 | 128);
        n >>= 7;
    }
    out.push(n as u8);
    out.extend(bytes);
    out
}

#[test]
fn names_of_a_model_do_not_drive_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    for (i, name) in ["\u{1b}[2J\u{1b}]0;t\u{7}", "\u{9b}31m", "\r\nerror[E0000]: forged", "\u{202e}\u{2028}\u{7f}"].iter().enumerate() {
        // ir_version 8; a graph of one node: its output, its op_type, its domain; an opset of that domain.
        let node =
            [field(1, b"x"), field(2, b"y"), field(3, name.as_bytes()), field(4, name.as_bytes()), field(7, name.as_bytes())].concat();
        let opset = [field(1, name.as_bytes()), vec![2 << 3, 1]].concat();
        let model = [vec![1 << 3, 8], field(7, &[field(1, &node), field(2, name.as_bytes())].concat()), field(8, &opset)].concat();
        std::fs::write(dir.path().join("m.onnx"), model).unwrap();
        let r = run(dir.path(), &["compile", "m.onnx", "--target", "trn2", "-o", "out"], &[("TAHOMA_LOG", "trace")]);
        assert_eq!(r.code, Some(1), "{}", r.err);
        assert_eq!(wrong(&r), None, "{i}");
        assert!(!r.err.lines().any(|l| l.starts_with("error[E0000]")), "{}", r.err);
    }
    // What is printed of a module written by hand: its function's, its port's and its dimension's names.
    let text = MODEL.replace("\"x\"", "\"\\1B[31mx\\0D\\0A\"").replace("\"y\"", "\"\\C2\\9B31m\\E2\\80\\AE\"");
    std::fs::write(dir.path().join("m.mlir"), text).unwrap();
    for line in
        ["explain m.mlir", "explain m.mlir --egraph text", "explain m.mlir --egraph dot", "opt m.mlir", "verify m.mlir --target trn2"]
    {
        let r = run(dir.path(), &line.split(' ').collect::<Vec<_>>(), &[]);
        assert_eq!((r.code, wrong(&r)), (Some(0), None), "{line}");
    }
}

#[test]
fn names_of_an_artifact_do_not_drive_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("m.mlir"), MODEL).unwrap();
    assert_eq!(run(dir.path(), &["compile", "m.mlir", "--target", "trn2", "-o", "a"], &[]).code, Some(0));
    let manifest = dir.path().join("a/manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    // A NumPy file of two by three f32 zeros.
    let head = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
    let npy = [b"\x93NUMPY\x01\x00\x76\x00", format!("{head:<117}\n").as_bytes(), &[0; 24]].concat();
    std::fs::write(dir.path().join("x.npy"), npy).unwrap();
    let names = tahoma_core::escape::hostile().into_iter().filter(|h| h.len() < 1000 && !h.contains('\0'));
    for (i, h) in names.enumerate() {
        let quoted = |h: &str| serde_json::to_string(h).unwrap();
        // Both ports, and what else a person might be told.
        let changed = match i % 3 {
            0 => text.replace("\"m.mlir\"", &quoted(&h)).replace("\"x\"", &quoted(&h)).replace("\"y\"", &quoted(&h)),
            1 => text.replace("\"trn2\"", &quoted(&h)),
            _ => text.replace("kernels/k0.py", quoted(&h).trim_matches('"')),
        };
        std::fs::write(&manifest, changed).unwrap();
        let given = format!("--input={}=x.npy", if i % 3 == 0 { &*h } else { "x" });
        let _ = std::fs::remove_dir_all(dir.path().join("out"));
        let r = run(dir.path(), &["run", "a", "--allow-edited", "--device", "trn2-sim", &given, "--output-dir", "out"], &[]);
        assert_eq!(wrong(&r), None, "{h:?}");
        assert!(i % 3 != 0 || h.is_empty() || h.contains('=') || r.code == Some(0), "{h:?}: {}", r.err);
        if i % 5 == 0 {
            assert_eq!(wrong(&run(dir.path(), &["verify", "a"], &[])), None, "{h:?}");
        }
        // What was written is one file in the folder that was named.
        let made: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(made.iter().all(|n| ["m.mlir", "a", "x.npy", "out"].iter().any(|o| n == o)), "{h:?}: {made:?}");
        let written = std::fs::read_dir(dir.path().join("out")).into_iter().flatten().flatten().count();
        assert_eq!(written, usize::from(r.code == Some(0)), "{h:?}");
    }
}
