//! Random numbers that are the same for a seed on every machine and in every version: PCG-XSH-RR 32.

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
    const INCREMENT: u64 = 1_442_695_040_888_963_407;

    pub fn new(seed: u64) -> Self {
        let mut random = Self { state: seed.wrapping_add(Self::INCREMENT) };
        random.next();
        random
    }

    fn next(&mut self) -> u32 {
        let old = self.state;
        self.state = old.wrapping_mul(Self::MULTIPLIER).wrapping_add(Self::INCREMENT);
        #[allow(clippy::cast_possible_truncation)]
        let shifted = (((old >> 18) ^ old) >> 27) as u32;
        #[allow(clippy::cast_possible_truncation)]
        shifted.rotate_right((old >> 59) as u32)
    }

    /// Between 0 and 1, without 1.
    pub fn unit(&mut self) -> f64 {
        f64::from(self.next()) / f64::from(u32::MAX).next_up()
    }

    /// Between `low` and `high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// How many of something happen that happens `mean` times on average.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn poisson(&mut self, mean: f64) -> u64 {
        /// Above this the normal distribution is as good, and faster.
        const LARGE: f64 = 30.0;
        if mean > LARGE {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (limit, mut product, mut count) = ((-mean).exp(), self.unit(), 0);
        while product > limit {
            product *= self.unit();
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_with_the_right_mean() {
        for mean in [0.1, 3.0, 80.0] {
            let (mut a, mut b) = (Random::new(7), Random::new(7));
            let sum: u64 = (0..20_000).map(|_| a.poisson(mean)).sum();
            let again: u64 = (0..20_000).map(|_| b.poisson(mean)).sum();
            #[allow(clippy::cast_precision_loss)]
            let seen = sum as f64 / 20_000.0;
            assert_eq!(sum, again);
            assert!((seen / mean - 1.0).abs() < 0.05, "{mean}: {seen}");
        }
    }
}
