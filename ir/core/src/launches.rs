//! What a run pays for launches, beside its kernels: the one rule by which the compiler predicts and the runtime counts.
//!
//! Kernels without a host step between them are one launch, a *segment*: its start is paid once, and each kernel after the first costs
//! the boundary before it.

use crate::artifact::PlanStep;

/// How often a run starts the device, and how often it goes from one kernel to the next without the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Launches {
    pub segments: u64,
    pub boundaries: u64,
    /// The last step was a kernel.
    open: bool,
}

/// What a target asks for each, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LaunchTimes {
    pub segment_ns: f64,
    pub boundary_ns: f64,
}

impl Launches {
    /// A kernel is launched.
    pub fn kernel(&mut self) {
        *(if self.open { &mut self.boundaries } else { &mut self.segments }) += 1;
        self.open = true;
    }
    /// The host does something with values.
    pub fn host(&mut self) {
        self.open = false;
    }
}

/// Time of a run on the device: `kernels` (launches, and nanoseconds of one) and what the launches cost. The same sum for whoever asks.
pub fn device_ns(kernels: impl IntoIterator<Item = (u64, f64)>, launches: Launches, times: LaunchTimes) -> f64 {
    let alone: f64 = kernels.into_iter().map(|(n, ns)| n as f64 * ns).sum();
    alone + launches.segments as f64 * times.segment_ns + launches.boundaries as f64 * times.boundary_ns
}

/// What a plan comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    /// Of each kernel.
    pub kernels: Vec<u64>,
    pub launches: Launches,
}

impl Tally {
    /// A run of `steps`, where `ns` says what each kernel takes: of a branch the dearer way, so that a run takes at most that.
    pub fn of(steps: &[PlanStep], ns: &[f64], times: LaunchTimes) -> Tally {
        let mut t = Tally { kernels: vec![0; ns.len()], launches: Launches::default() };
        t.steps(steps, ns, times);
        t
    }
    /// Nanoseconds of it all.
    pub fn ns(&self, ns: &[f64], times: LaunchTimes) -> f64 {
        device_ns(self.kernels.iter().copied().zip(ns.iter().copied()), self.launches, times)
    }
    fn steps(&mut self, steps: &[PlanStep], ns: &[f64], times: LaunchTimes) {
        for s in steps {
            match s {
                PlanStep::Launch { kernel, .. } => {
                    if let Some(n) = self.kernels.get_mut(*kernel) {
                        *n = n.saturating_add(1);
                    }
                    self.launches.kernel();
                }
                PlanStep::Host { .. } => self.launches.host(),
                PlanStep::If { then, otherwise, .. } => {
                    // The host reads the condition.
                    self.launches.host();
                    let after = |steps: &[PlanStep]| {
                        let mut t = self.clone();
                        t.steps(steps, ns, times);
                        (t.ns(ns, times), t)
                    };
                    let (a, b) = (after(&then.steps), after(&otherwise.steps));
                    *self = if a.0 >= b.0 { a.1 } else { b.1 };
                }
                PlanStep::Loop { trips, steps, .. } => self.repeated(*trips as u64, steps, ns, times),
            }
        }
    }
    /// What is open before a run decides what the run pays: from the second on that is always the same.
    fn repeated(&mut self, trips: u64, steps: &[PlanStep], ns: &[f64], times: LaunchTimes) {
        if trips > 0 {
            self.steps(steps, ns, times);
        }
        if trips > 1 {
            let before = self.clone();
            self.steps(steps, ns, times);
            let more = |after: u64, before: u64| after.saturating_add((after - before).saturating_mul(trips - 2));
            self.kernels.iter_mut().zip(&before.kernels).for_each(|(n, &b)| *n = more(*n, b));
            self.launches.segments = more(self.launches.segments, before.launches.segments);
            self.launches.boundaries = more(self.launches.boundaries, before.launches.boundaries);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Branch;
    use crate::graph::OpRef;

    const TIMES: LaunchTimes = LaunchTimes { segment_ns: 100.0, boundary_ns: 1.0 };

    fn kernel(kernel: usize) -> PlanStep {
        PlanStep::Launch { kernel, inputs: vec![], outputs: vec![] }
    }
    fn host() -> PlanStep {
        let op = OpRef(crate::ops::find("add").expect("an op"));
        PlanStep::Host { op, attrs: Default::default(), inputs: vec![], outputs: vec![], origin: Default::default() }
    }
    fn times(trips: usize, steps: Vec<PlanStep>) -> PlanStep {
        PlanStep::Loop { trips, inputs: vec![], states: vec![], rows: vec![], stacks: vec![], steps, outputs: vec![] }
    }
    fn counts(steps: &[PlanStep]) -> (Vec<u64>, u64, u64) {
        let t = Tally::of(steps, &[5.0, 7.0], TIMES);
        (t.kernels, t.launches.segments, t.launches.boundaries)
    }

    #[test]
    fn a_host_step_ends_a_segment() {
        assert_eq!(counts(&[]), (vec![0, 0], 0, 0));
        assert_eq!(counts(&[kernel(0), kernel(1), kernel(0)]), (vec![2, 1], 1, 2));
        assert_eq!(counts(&[host(), kernel(0), host(), host(), kernel(1)]), (vec![1, 1], 2, 0));
        let t = Tally::of(&[kernel(0), kernel(1), host(), kernel(1)], &[5.0, 7.0], TIMES);
        assert_eq!(t.ns(&[5.0, 7.0], TIMES), 5.0 + 14.0 + 200.0 + 1.0);
    }

    /// As if each run were written out.
    #[test]
    fn a_loop_pays_what_its_runs_pay() {
        for body in
            [vec![kernel(0), kernel(1)], vec![kernel(0), host()], vec![host(), kernel(0)], vec![kernel(0), host(), kernel(1)], vec![]]
        {
            for trips in [0, 1, 2, 3, 7] {
                for before in [vec![], vec![kernel(1)]] {
                    let after = [kernel(1)];
                    let looped = [before.clone(), vec![times(trips, body.clone())], after.to_vec()].concat();
                    let plain = [before, (0..trips).flat_map(|_| body.clone()).collect(), after.to_vec()].concat();
                    assert_eq!(counts(&looped), counts(&plain), "{trips} runs of {body:?}");
                }
            }
        }
    }

    #[test]
    fn a_branch_counts_as_its_dearer_way() {
        let branch = |steps| Branch { steps, results: vec![] };
        let choice = |then, otherwise| PlanStep::If { inputs: vec![], then: branch(then), otherwise: branch(otherwise), outputs: vec![] };
        let both = [kernel(0), choice(vec![kernel(0)], vec![kernel(1)]), kernel(0)];
        assert_eq!(counts(&both), (vec![2, 1], 2, 1));
        let both = [kernel(0), choice(vec![kernel(0), kernel(0)], vec![kernel(1)]), kernel(0)];
        assert_eq!(counts(&both), (vec![4, 0], 2, 2));
    }
}
