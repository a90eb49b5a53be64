//! A load that people made, as figures.

use super::random::Random;

/// Requests per second at the web site of the football World Cup in France on 30 June 1998, 14:00 to 23:00 UTC, the mean of
/// each five minutes in tens: M. Arlitt and T. Jin, "1998 World Cup Web Site Access Logs", Internet Traffic Archive. Two
/// matches were played; many left when one was over, and all within the hour after the second.
#[rustfmt::skip]
const WORLD_CUP: [f64; 108] = [
    48., 50., 54., 56., 58., 67., 83., 106., 125., 143., 158., 171.,
    178., 190., 198., 209., 215., 212., 218., 225., 223., 231., 238., 239.,
    243., 240., 245., 249., 270., 286., 232., 206., 196., 191., 173., 167.,
    161., 157., 154., 146., 143., 141., 134., 135., 133., 133., 130., 128.,
    127., 128., 127., 124., 124., 123., 124., 123., 120., 123., 124., 131.,
    144., 161., 181., 194., 202., 207., 208., 216., 222., 238., 237., 225.,
    223., 231., 238., 245., 248., 253., 261., 265., 279., 288., 312., 294.,
    289., 293., 300., 301., 304., 323., 347., 346., 352., 331., 290., 225.,
    196., 123., 84., 76., 69., 66., 63., 58., 57., 55., 52., 50.,
];

/// Seconds of one figure.
const STEP: f64 = 300.0;

/// How long the day of the World Cup is, in seconds.
#[allow(clippy::cast_precision_loss)]
pub(super) const SECONDS: f64 = STEP * WORLD_CUP.len() as f64;

/// The rate at each second, `peak` messages/s at the busiest five minutes. Between the figures it goes in a straight line,
/// and each minute lies 2 % beside it, as the record's do.
pub(super) fn world_cup(peak: f64) -> impl Fn(f64) -> f64 + 'static {
    let highest = WORLD_CUP.iter().copied().fold(0.0, f64::max);
    let mut random = Random::new(1_998);
    // Evenly spread numbers have a standard deviation of their half width over the root of three.
    let half = 0.02 * 3f64.sqrt();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let minutes: Vec<f64> =
        (0..(SECONDS / 60.0) as usize).map(|_| random.between(1.0 - half, 1.0 + half)).collect();
    move |t| {
        let place = (t / STEP - 0.5).max(0.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let (index, minute) = (place as usize, (t / 60.0) as usize);
        let last = WORLD_CUP.len() - 1;
        let (from, to) = (WORLD_CUP[index.min(last)], WORLD_CUP[(index + 1).min(last)]);
        let mean = from + (to - from) * place.fract();
        mean / highest * peak * minutes.get(minute).copied().unwrap_or(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_five_minutes_are_the_peak_and_what_is_between_two_figures_lies_between_them() {
        let rate = world_cup(900.0);
        let mean = |from: f64, seconds: u32| -> f64 {
            (0..seconds).map(|t| rate(from + f64::from(t))).sum::<f64>() / f64::from(seconds)
        };
        let peak = mean(92.0 * STEP, 300);
        assert!((850.0..=910.0).contains(&peak), "{peak}");
        let (early, late) = (mean(0.0, 300), mean(SECONDS - 300.0, 300));
        assert!((110.0..140.0).contains(&early) && (110.0..140.0).contains(&late), "{early} {late}");
        let between = rate(7.0 * STEP);
        assert!((900.0 / 352.0 * 80.0..900.0 / 352.0 * 110.0).contains(&between), "{between}");
    }
}
