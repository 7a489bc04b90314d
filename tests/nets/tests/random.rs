//! The generator of random programs: it covers the op table, what it makes runs, and it is the same every time.

use std::collections::{BTreeMap, BTreeSet};
use tahoma_core::Program;
use tahoma_core::eval::run;
use tahoma_core::ops::OPS;
use tahoma_nets::random::{NOT_GENERATED, listing, random};

const PROGRAMS: u64 = 1500;

#[test]
fn programs_cover_the_op_table_and_run() {
    let mut ops: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut sizes, mut outputs) = (vec![], 0);
    let (mut dtypes, mut ranks) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..PROGRAMS {
        let r = random(seed);
        let main = r.program.main();
        let v = r.values(0, false);
        let out = run(&r.program, Program::MAIN, &v.inputs, &v).unwrap_or_else(|e| panic!("seed {seed}: {e}\n{}", listing(&r.program)));
        for (o, t) in main.outputs.iter().zip(&out) {
            let ty = main.ty(o.value);
            assert_eq!((ty.dtype, ty.rank()), (t.dtype(), t.rank()), "seed {seed}");
        }
        outputs += out.len();
        main.nodes.iter().for_each(|n| *ops.entry(n.op.name).or_default() += 1);
        dtypes.extend(main.types.iter().map(|t| t.dtype));
        ranks.extend(main.types.iter().map(|t| t.rank()));
        sizes.push(r.ops());
    }
    sizes.sort_unstable();
    let [least, median, most] = [0, sizes.len() / 2, sizes.len() - 1].map(|i| sizes[i]);
    println!("{PROGRAMS} programs of {least} to {most} ops, median {median}; {outputs} outputs; {} ops of the table", ops.len());
    println!("{ops:?}");
    let without: BTreeSet<&str> = OPS.iter().map(|o| o.name).filter(|n| !ops.contains_key(n)).collect();
    assert_eq!(without, NOT_GENERATED.iter().map(|n| n.0).collect(), "ops that no program has");
    assert_eq!(dtypes.len(), tahoma_core::DType::all().count(), "{dtypes:?}");
    assert!((0..=5).all(|r| ranks.contains(&r)), "{ranks:?}");
    assert!(least >= 5 && most <= 40 && median >= 10, "{sizes:?}");
}

#[test]
fn a_seed_gives_one_program() {
    for seed in [0, 7, 4711] {
        assert_eq!(random(seed).program, random(seed).program);
        assert_eq!(format!("{:?}", random(seed).values(1, true).inputs), format!("{:?}", random(seed).values(1, true).inputs));
    }
    assert_ne!(random(1).program, random(2).program);
}
