//! `tahoma opt`

use crate::args::Opt;
use crate::util::print;
use crate::{Exit, OK};
use tahoma::steps;

pub(crate) fn run(a: Opt) -> Exit {
    if let Some(d) = &a.dump {
        crate::util::check_folder(d)?;
    }
    let options = steps::Options { target: a.target, numerics: a.numerics.into(), verify_each: a.verify_each, dump: a.dump };
    print(steps::run_file(&a.file, &a.steps, &options)?.trim_end());
    Ok(OK)
}
