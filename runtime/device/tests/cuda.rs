//! The CUDA path against a fake driver that runs kernels on the PTX emulator: results, and how often the driver is called for what.

use proptest::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use tahoma_core::artifact::{Manifest, PlanStep, WeightRef};
use tahoma_core::{DType, Diagnostic, Tensor};
use tahoma_fake_cuda::plan::{self, Plan, SIZES, WEIGHTS};
use tahoma_fake_cuda::{Call, Fake, Log};
use tahoma_runtime::cuda::{self, Options};
use tahoma_runtime::{Artifact, Device, Runner, WeightBytes, device};

struct Fixed;

impl WeightBytes for Fixed {
    fn bytes(&self, w: &WeightRef) -> Result<Cow<'_, [u8]>, Diagnostic> {
        Ok(WEIGHTS[..w.bytes as usize].into())
    }
}

fn artifact((manifest, text): (Manifest, Vec<String>)) -> Artifact {
    tahoma_runtime::artifact::check(&manifest).unwrap_or_else(|d| panic!("{d}"));
    Artifact { manifest: Arc::new(manifest), kernels: Arc::new(text), weights: Arc::new(Fixed), edited: vec![] }
}

fn straight(steps: usize) -> Artifact {
    artifact(plan::straight("sm_80", steps))
}

fn inputs(a: &Artifact, round: usize) -> Vec<(String, Tensor)> {
    let given = a.manifest.inputs.iter().map(|p| {
        let ty = &a.manifest.buffers[p.buffer].ty;
        let n = ty.bytes().unwrap_or(0) as usize / 4;
        let t = match ty.dtype {
            DType::Bool => Tensor::bool(&[], vec![round.is_multiple_of(2)]),
            _ => Tensor::f32(&[n], (0..n).map(|i| (i + round) as f32 * 0.37 - 1.0).collect()),
        };
        (p.name.clone(), t)
    });
    given.collect()
}

fn open(fake: &Fake) -> Result<Box<dyn Device>, Diagnostic> {
    cuda::open_with(&Options { library: Some(fake.file()), ..Options::default() })
}

fn on_interp(a: &Artifact, round: usize) -> Vec<(String, Tensor)> {
    Runner::new(a.clone(), device::open("interp").unwrap()).unwrap().run(&inputs(a, round)).unwrap().0
}

/// No call was wrong, nothing is left.
fn clean(log: &Log) {
    assert_eq!((&log.violations, &log.left), (&vec![], &vec![]));
}

/// Every pointer that a kernel got, and that it lies in an allocation.
fn pointers_are_inside(log: &Log) {
    let chunks: Vec<(u64, u64)> = log.of("cuMemAlloc_v2").map(|c| (c.number("at"), c.number("bytes"))).collect();
    for c in log.of("cuLaunchKernel") {
        let bytes = SIZES[c.text("kernel")[3..].parse::<usize>().unwrap()] as u64 * 4;
        for arg in ["arg0", "arg1", "arg2"] {
            let at = c.number(arg);
            assert!(chunks.iter().any(|(base, n)| at >= *base && at + bytes <= base + n), "{arg} of {c:?} in {chunks:?}");
        }
    }
}

/// A launch writes over nothing that is read later: buffers by what the plan says, places by what the driver was told.
fn live_buffers_are_apart(m: &Manifest, launches: &[&Call]) {
    let mut places: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    let last = |b: usize| {
        let read = m.run.iter().rposition(|s| s.inputs().contains(&b));
        if m.outputs.iter().any(|o| o.buffer == b) || m.weights.iter().any(|w| w.buffer == b) { Some(usize::MAX) } else { read }
    };
    for (i, (s, c)) in m.run.iter().zip(launches).enumerate() {
        for (k, &b) in s.inputs().iter().chain(s.outputs()).enumerate() {
            let (at, bytes) = (c.number(&format!("arg{k}")), m.buffers[b].ty.bytes().unwrap());
            if k < s.inputs().len() {
                // What was made lies where it was made.
                assert_eq!(places.get(&b).copied().unwrap_or((at, bytes)), (at, bytes), "step {i}");
            } else {
                let live = places.iter().filter(|(other, _)| last(**other).is_some_and(|l| l >= i));
                for (other, (start, n)) in live {
                    assert!(at + bytes <= *start || start + n <= at, "step {i} writes buffer {b} over buffer {other}");
                }
            }
            places.insert(b, (at, bytes));
        }
    }
}

#[test]
fn a_plan_is_one_allocation_and_each_run_one_wait() {
    let fake = Fake::start("");
    let a = straight(24);
    let mut r = Runner::new(a.clone(), open(&fake).unwrap()).unwrap();
    let loaded = fake.log();
    assert_eq!((loaded.count("cuMemAlloc_v2"), loaded.count("cuModuleLoadDataEx"), loaded.count("cuStreamSynchronize")), (1, 3, 0));
    let mut before = loaded;
    for round in 0..3 {
        let (got, report) = r.run(&inputs(&a, round)).unwrap();
        assert_eq!(got, on_interp(&a, round));
        let log = fake.log();
        let more = |name: &str| log.count(name) - before.count(name);
        assert_eq!((more("cuLaunchKernel"), more("cuStreamSynchronize")), (24, 1), "round {round}");
        assert_eq!((more("cuMemAlloc_v2"), more("cuMemFree_v2"), more("cuModuleLoadDataEx"), more("cuFuncSetAttribute")), (0, 0, 0, 0));
        // Inputs go up in each run, the weights in the first alone; outputs come back. Events are made once.
        assert_eq!(more("cuMemcpyHtoD_v2"), if round == 0 { 6 } else { 3 });
        assert_eq!(more("cuMemcpyDtoH_v2"), 3);
        assert_eq!(more("cuEventCreate") > 0, round == 0);
        assert!(report.device_ns > 0.0 && report.device_span_ns >= report.device_ns * 0.999, "{report:?}");
        assert!(report.kernels.iter().all(|k| k.device_ns > 0.0 && k.launches == 8));
        let calls: Vec<&Call> = log.of("cuLaunchKernel").skip(before.count("cuLaunchKernel")).collect();
        live_buffers_are_apart(&a.manifest, &calls);
        // Nothing waits between the launches: all copies are before the first or after the last.
        let this = &log.calls[before.calls.len()..];
        let at = |name: &str| this.iter().position(|c| c.name == name).zip(this.iter().rposition(|c| c.name == name)).unwrap();
        assert!(at("cuMemcpyHtoD_v2").1 < at("cuLaunchKernel").0 && at("cuLaunchKernel").1 < at("cuStreamSynchronize").0);
        assert!(at("cuStreamSynchronize").1 < at("cuMemcpyDtoH_v2").0);
        before = log;
    }
    pointers_are_inside(&before);
    // Memory is used again: less than all buffers together.
    let all: u64 = a.manifest.buffers.iter().map(|b| b.ty.bytes().unwrap().next_multiple_of(256)).sum();
    let arena = before.of("cuMemAlloc_v2").next().unwrap().number("bytes");
    assert!(arena < all * 3 / 4, "{arena} of {all}");
    drop(r);
    let log = fake.log();
    clean(&log);
    assert_eq!((log.count("cuMemFree_v2"), log.count("cuModuleUnload")), (1, 3));
}

#[test]
fn without_timing_there_are_no_events() {
    let fake = Fake::start("");
    let a = straight(5);
    let device = cuda::open_with(&Options { library: Some(fake.file()), timing: false, ..Options::default() }).unwrap();
    let (got, report) = Runner::new(a.clone(), device).unwrap().run(&inputs(&a, 0)).unwrap();
    assert_eq!((got, report.device_ns), (on_interp(&a, 0), 0.0));
    assert_eq!(fake.log().count("cuEventRecord"), 0);
    clean(&fake.log());
}

#[test]
fn a_runner_may_move_to_another_thread() {
    fn sent<T: Send>(t: T) -> T {
        t
    }
    let fake = Fake::start("");
    let a = straight(6);
    let mut r = sent(Runner::new(a.clone(), open(&fake).unwrap()).unwrap());
    let (first, given) = (r.run(&inputs(&a, 0)).unwrap().0, inputs(&a, 1));
    let second = std::thread::spawn(move || r.run(&given).unwrap().0).join().unwrap();
    assert_eq!((first, second), (on_interp(&a, 0), on_interp(&a, 1)));
    clean(&fake.log());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Any plan, with host steps and branches between the launches, gives what the interpreter gives, run after run.
    #[test]
    fn plans_give_what_the_interpreter_gives(steps in prop::collection::vec(prop::array::uniform4(0usize..64), 1..20)) {
        let fake = Fake::start("");
        let mut p = Plan::new("sm_80");
        steps.into_iter().for_each(|s| p.step(s));
        let a = artifact(p.finish());
        let mut r = Runner::new(a.clone(), open(&fake).unwrap()).unwrap();
        let branches = a.manifest.run.iter().filter(|s| matches!(s, PlanStep::If { .. })).count();
        for round in 0..3 {
            prop_assert_eq!(r.run(&inputs(&a, round)).unwrap().0, on_interp(&a, round));
        }
        drop(r);
        let log = fake.log();
        clean(&log);
        pointers_are_inside(&log);
        prop_assert!(log.count("cuMemAlloc_v2") <= 1 + branches);
        prop_assert_eq!(log.count("cuStreamSynchronize"), 3);
    }
}

#[test]
fn a_failure_at_any_call_is_told_and_leaves_nothing() {
    let fake = Fake::start("");
    let mut p = Plan::new("sm_80");
    [[2, 0, 0, 1], [0, 0, 2, 2], [2, 0, 2, 3], [1, 1, 0, 1], [2, 1, 1, 2]].into_iter().for_each(|s| p.step(s));
    let a = artifact(p.finish());
    let attempt = || {
        let mut r = Runner::new(a.clone(), open(&fake)?)?;
        r.run(&inputs(&a, 0)).map(|(out, _)| out)
    };
    let want = attempt().unwrap();
    let all = fake.log();
    clean(&all);
    // Past these a failure has nowhere to be told: what is left is freed with the context.
    let ends = ["cuMemFree_v2", "cuModuleUnload", "cuEventDestroy_v2", "cuDevicePrimaryCtxRelease_v2"];
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    let codes = [2, 46, 209, 218, 719, 802, 999];
    for i in 0..all.calls.len() {
        for code in [codes[i % 7], codes[(i + 4) % 7]] {
            fake.restart(&format!("fail={i}:{code}"));
            match attempt() {
                Ok(out) => {
                    let log = fake.log();
                    let failed = log.calls.iter().find(|c| c.code == code).expect("the failure was met");
                    let last = log.calls.iter().rposition(|c| c.name == "cuMemcpyDtoH_v2").unwrap_or(0);
                    let after = log.calls.iter().position(|c| c.code == code).unwrap_or(0) > last;
                    assert!(ends.contains(&failed.name.as_str()) || (failed.name == "cuCtxSetCurrent" && after), "{failed:?} is not told");
                    assert_eq!(out, want);
                }
                Err(d) => {
                    assert!(["E0603", "E0604", "E0611", "E0612", "E0901"].contains(&d.code.as_str()), "{d}");
                    assert!(d.message.contains(&format!("CUDA error {code}")) && !d.notes.is_empty(), "{d}");
                    *told.entry(d.code.clone()).or_default() += 1;
                    let log = fake.log();
                    assert_eq!((&log.violations, &log.left), (&vec![], &vec![]), "call {i} fails with {code}");
                }
            }
        }
    }
    println!("{} calls, told as {told:?}", all.calls.len());
    assert!(told.len() == 4, "{told:?}");
}

#[test]
fn a_card_that_the_artifact_is_not_for_is_named() {
    for (capability, target, advice) in [
        ("8.0", "sm_90a", "--target sm_80"),
        ("10.3", "sm_100a", "--target sm_103a"),
        ("10.0", "sm_90a", "--target sm_100a"),
        ("12.0", "sm_90a", "--target sm_120"),
        ("9.0", "sm_103a", "--target sm_90a"),
        ("7.5", "sm_80", "the earliest is compute capability 8.0"),
    ] {
        let fake = Fake::start(&format!("capability={capability}"));
        let d = Runner::new(artifact(Plan::new(target).finish()), open(&fake).unwrap()).err().expect("another chip");
        assert_eq!(d.code, "E0611");
        assert!(d.message.contains(&format!("Fake GPU (PTX emulator) (compute capability {capability})")), "{d}");
        assert!(d.notes.iter().any(|n| n.contains(advice)), "{d}");
        assert_eq!(fake.log().count("cuModuleLoadDataEx"), 0);
    }
    // PTX is compiled forward.
    for capability in ["8.0", "8.9", "9.0", "10.3", "12.1"] {
        let fake = Fake::start(&format!("capability={capability}"));
        let a = straight(2);
        assert_eq!(Runner::new(a.clone(), open(&fake).unwrap()).unwrap().run(&inputs(&a, 0)).unwrap().0, on_interp(&a, 0));
    }
}

#[test]
fn what_the_driver_says_is_shown() {
    let error = |words: &str, change: &dyn Fn(&mut Artifact)| {
        let fake = Fake::start(words);
        let mut a = straight(4);
        change(&mut a);
        let run = || Runner::new(a.clone(), open(&fake)?)?.run(&inputs(&a, 0)).map(|_| ());
        let d = run().expect_err("it fails");
        clean(&fake.log());
        (d.code.clone(), format!("{d}"))
    };
    let has = |(code, text): (String, String), want: &str, words: &[&str]| {
        assert_eq!(code, want, "{text}");
        words.iter().for_each(|w| assert!(text.contains(w), "{w:?} in {text}"));
    };
    has(error("devices=0", &|_| {}), "E0604", &["CUDA_ERROR_NO_DEVICE", "CUDA_VISIBLE_DEVICES"]);
    has(error("memory=2000", &|_| {}), "E0612", &["bytes were asked of Fake GPU", "2000 bytes free of 2000", "smaller batch"]);
    has(error("ptx=6.5", &|_| {}), "E0604", &["CUDA error 222", "add0.ptx", "Unsupported .version 7.0", "update the driver"]);
    let text = |from: &'static str, to: &'static str| {
        move |a: &mut Artifact| a.kernels = Arc::new(a.kernels.iter().map(|t| t.replace(from, to)).collect())
    };
    has(error("", &text("add.rn.f32", "frobnicate.f32")), "E0603", &["CUDA error 218", "ptxas fatal", "frobnicate"]);
    // A kernel that leaves its memory: told at the wait, with the kernels that may have done it; the context goes, a new one works.
    let wild = text("mad.wide.u32 %rd6, %r1, 4, %rd3", "mad.wide.u32 %rd6, %r1, 4000000, %rd3");
    has(error("", &wild), "E0603", &["CUDA error 700", "launched since the last wait: add0, add1, add2", "compute-sanitizer"]);
    has(error("fail=cuMemcpyHtoD_v2:12345", &|_| {}), "E0603", &["an error without a name (CUDA error 12345)"]);
    has(error("", &|a| Arc::make_mut(&mut a.manifest).kernels[1].name = "other".into()), "E0605", &["entry other is not there"]);
}

#[test]
fn shared_memory_beyond_what_is_free_is_asked_for_once() {
    let fake = Fake::start("");
    let mut a = straight(6);
    Arc::make_mut(&mut a.manifest).kernels[2].shared_bytes = 100_000;
    a.kernels = Arc::new(a.kernels.iter().map(|t| t.replace(".visible", ".extern .shared .align 16 .b8 s[];\n.visible")).collect());
    let mut r = Runner::new(a.clone(), open(&fake).unwrap()).unwrap();
    for round in 0..2 {
        assert_eq!(r.run(&inputs(&a, round)).unwrap().0, on_interp(&a, round));
    }
    let asked: Vec<u64> = fake.log().of("cuFuncSetAttribute").map(|c| c.number("bytes")).collect();
    assert_eq!(asked, [100_000]);
}
