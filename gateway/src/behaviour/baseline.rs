//! What is usual: a mean and a spread that slowly forget, blended with a prior while little is known.

/// A running mean and variance with exponential forgetting.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Baseline {
    windows: f32,
    mean: f32,
    variance: f32,
}

/// How many windows the prior counts as.
const PRIOR_WINDOWS: f64 = 8.0;
/// After this many windows the oldest weigh little: about three weeks of working hours.
const MEMORY: f32 = 160.0;

impl Baseline {
    /// Takes in the value of a closed window. An outlier moves it by a bounded step, a window that was found unusual by
    /// a smaller one: nobody trains it by force, and who has truly changed is known again after some days.
    pub(super) fn learn(&mut self, value: f64, prior: f64, unusual: bool) {
        let usual = self.usual(prior);
        let spread = self.spread(prior) * if unusual { 1.0 / 3.0 } else { 1.0 };
        #[expect(clippy::cast_possible_truncation, reason = "a statistic; its size is what matters")]
        let value = value.min(usual + 3.0 * spread) as f32;
        self.windows = (self.windows + 1.0).min(MEMORY);
        let weight = 1.0 / self.windows;
        let delta = value - self.mean;
        self.mean += weight * delta;
        self.variance = (1.0 - weight) * (self.variance + weight * delta * delta);
    }

    pub(super) fn usual(&self, prior: f64) -> f64 {
        let windows = f64::from(self.windows);
        (windows * f64::from(self.mean) + PRIOR_WINDOWS * prior) / (windows + PRIOR_WINDOWS)
    }

    /// At least what counting alone spreads (Poisson), and a quarter of the mean.
    pub(super) fn spread(&self, prior: f64) -> f64 {
        let (usual, windows) = (self.usual(prior), f64::from(self.windows));
        let prior_variance = (0.5 * prior).powi(2);
        let variance =
            (windows * f64::from(self.variance) + PRIOR_WINDOWS * prior_variance) / (windows + PRIOR_WINDOWS);
        variance.sqrt().max(usual.max(1.0).sqrt()).max(0.25 * usual)
    }

    /// How many spreads above usual.
    pub(super) fn excess(&self, value: f64, prior: f64) -> f64 {
        (value - self.usual(prior)) / self.spread(prior)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_own_history_outweighs_the_prior() {
        let mut baseline = Baseline::default();
        assert!((baseline.usual(8.0) - 8.0).abs() < 1e-9);
        for _ in 0..100 {
            baseline.learn(40.0, 8.0, false);
        }
        assert!(baseline.usual(8.0) > 30.0);
        assert!(baseline.excess(40.0, 8.0) < 1.0);
        assert!(baseline.excess(200.0, 8.0) > 4.0);
    }

    #[test]
    fn one_outlier_does_not_become_the_rule() {
        let mut baseline = Baseline::default();
        for _ in 0..50 {
            baseline.learn(8.0, 8.0, false);
        }
        baseline.learn(10_000.0, 8.0, true);
        assert!(baseline.usual(8.0) < 10.0, "{}", baseline.usual(8.0));
    }
}
