//! A small GPU kit: made by the compiler, run through the CUDA path on the fake driver, which runs its PTX on the emulator.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tahoma::Target;
use tahoma_fake_cuda::Fake;
use tahoma_kit::format::{Kind, Kit, Status};
use tahoma_kit::worker::{self, How};
use tahoma_runtime::cuda::chip;
use tahoma_tests::kit::{LIMIT, Recipe, Source, TARGETS, files, make, sources};

#[test]
fn a_small_kit_gives_what_it_expects() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("kit");
    let ptxas = std::env::var_os("TAHOMA_PTXAS").map(PathBuf::from).filter(|p| p.is_file());
    let recipe = Recipe { out: &out, targets: &["sm_80", "sm_90a"], program: None, ptxas: ptxas.as_deref(), limit: LIMIT };
    let op = |n: &str| Source::Op(n.into());
    let wanted = [
        Source::Bench("bench-softmax-f32"),
        Source::Form("llama3-8b-decode"),
        Source::Model("vad-16k"),
        op("node/test_softmax_axis_1"),
        op("node/test_reduce_l2_default_axes_keepdims_example"),
        op("node/test_not_there"),
    ];
    make(&recipe, &wanted, &|l| println!("{l}")).unwrap_or_else(|d| panic!("{d}"));
    let kit = Kit::load(&out).unwrap_or_else(|d| panic!("{d}"));
    let names: BTreeSet<(Kind, &str)> = kit.cases.iter().map(|c| (c.kind, c.name.as_str())).collect();
    assert_eq!(kit.cases.len(), 5, "{names:?}");
    assert!(kit.left_out.iter().any(|l| l.starts_with("node-test_not_there: ")), "{:?}", kit.left_out);
    assert!(kit.cases.iter().all(|c| c.cubins == (ptxas.is_some() && c.kind == Kind::Bench)));
    assert_eq!(ptxas.is_none(), kit.left_out.iter().any(|l| l.starts_with("cubins")), "{:?}", kit.left_out);

    let here = std::env::current_dir().expect("a folder").display().to_string();
    let all = files(&out);
    for f in all.iter().filter(|f| f.ends_with("json") || f.ends_with("ptx") || f.ends_with("md")) {
        let text = std::fs::read_to_string(out.join(f)).unwrap_or_default();
        assert!(!text.contains(&here) && !text.contains(&*dir.path().to_string_lossy()), "{f} names a path of this machine");
    }
    assert_eq!(all.iter().filter(|f| f.ends_with("model.onnx")).count(), 1, "weights are there once: {all:?}");
    // What has cubins has them of both targets.
    for c in kit.cases.iter().filter(|c| c.cubins) {
        for folder in c.artifacts.values() {
            let kernels = all.iter().filter(|f| f.starts_with(folder.as_str()) && f.ends_with(".ptx"));
            let missing = |f: &&String| !out.join(worker::cubin(&hash(&out.join(f)))).is_file();
            assert_eq!(kernels.filter(missing).count(), 0, "{folder}");
        }
    }

    for (capability, target) in [("8.0", "sm_80"), ("9.0", "sm_90a")] {
        let fake = Fake::start(&format!("capability={capability}"));
        let how = How { target: target.into(), cubins: false, time: Duration::ZERO, most: 1, library: Some(fake.file()) };
        for c in &kit.cases {
            let o = worker::run(&out, c, &how);
            println!("{target} {}: {:?}, {} launches, {:.2e} of what is allowed", c.name, o.status, o.launches, o.of_allowed);
            assert_eq!(o.status, Status::Pass, "{}: {}", c.name, o.detail);
            assert!(o.launches > 0 && o.runs == 1 && o.device_us[0] > 0.0, "{o:?}");
        }
        let log = fake.log();
        assert_eq!((log.violations, log.left), (vec![], vec![]));
    }
}

fn hash(path: &Path) -> String {
    tahoma_runtime::sha256(&std::fs::read(path).unwrap_or_default())
}

#[test]
fn what_does_not_fit_is_left_out_and_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("kit");
    let recipe = Recipe { out: &out, targets: &["sm_90a"], program: None, ptxas: None, limit: 400_000 };
    let wanted = [Source::Model("vad-16k"), Source::Op("node/test_abs".into())];
    let kit = make(&recipe, &wanted, &|_| {}).unwrap_or_else(|d| panic!("{d}"));
    assert_eq!(kit.cases.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["node-test_abs"]);
    assert!(kit.left_out.iter().any(|l| l.starts_with("vad-16k: ") && l.contains("beyond")), "{:?}", kit.left_out);
    assert!(files(&out).iter().all(|f| !f.contains("vad")));
    // A kit is replaced, anything else is not.
    make(&recipe, &wanted[1..], &|_| {}).unwrap_or_else(|d| panic!("{d}"));
    std::fs::remove_file(out.join("kit.json")).expect("it is there");
    assert!(make(&recipe, &wanted[1..], &|_| {}).is_err());
}

#[test]
fn every_target_and_operator_has_its_place() {
    let ours: BTreeSet<&str> = Target::names().into_iter().filter(|t| t.starts_with("sm_")).collect();
    assert_eq!(ours, chip::TARGETS.iter().copied().collect());
    assert!(TARGETS.iter().all(|t| ours.contains(t)));
    let all = sources();
    let of = |f: &dyn Fn(&Source) -> bool| all.iter().filter(|s| f(s)).count();
    println!("{} sources, {} of them operators", all.len(), of(&|s| matches!(s, Source::Op(_))));
    assert!(of(&|s| matches!(s, Source::Op(_))) > 80 && of(&|s| matches!(s, Source::Form(_))) == tahoma_nets::NETWORKS.len() - 1);
    let names: BTreeSet<String> = all.iter().map(Source::name).collect();
    assert_eq!(names.len(), all.len());
}
