//! From a few timed seconds to an episode: pure arithmetic.
//!
//! The first frame of a stretch costs more than the next ones, in time (the network makes it whole) and in bytes (it is a
//! key frame). Both begin anew at every cut and now and then besides, so the two are counted apart.

use remaster_domain::PreviewCost;

/// The network makes everything anew at least this often; cuts, where it and the encoder begin anew, come about as often.
const WHOLE_EVERY_FRAMES: u64 = 96;

/// What some frames took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Spent {
    pub(super) seconds: f64,
    pub(super) bytes: f64,
}

/// A stretch that was made twice: its first frame alone, and all of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Timed {
    pub(super) first: Spent,
    pub(super) all: Spent,
    /// Frames of all of it.
    pub(super) frames: u32,
}

/// What a frame takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate {
    /// One that is made whole.
    pub(super) whole: Spent,
    /// One that follows another.
    pub(super) next: Spent,
}

impl Rate {
    /// The mean over stretches; `None` without any.
    pub(super) fn of(stretches: &[Timed]) -> Option<Self> {
        if stretches.is_empty() {
            return None;
        }
        let sum = |part: &dyn Fn(&Timed) -> f64| stretches.iter().map(part).sum::<f64>();
        let count = stretches.len() as f64;
        let whole = Spent {
            seconds: sum(&|timed| timed.first.seconds) / count,
            bytes: sum(&|timed| timed.first.bytes) / count,
        };
        let followers = sum(&|timed| f64::from(timed.frames.saturating_sub(1)));
        let next = if followers > 0.0 {
            // A clock that hiccups must not make time run backwards.
            Spent {
                seconds: (sum(&|timed| timed.all.seconds - timed.first.seconds) / followers).max(0.0),
                bytes: (sum(&|timed| timed.all.bytes - timed.first.bytes) / followers).max(0.0),
            }
        } else {
            whole
        };
        Some(Self { whole, next })
    }

    /// So many frames, and beside them so many bytes of sound and subtitles.
    pub(super) fn cost(&self, frames: u64, other_bytes: f64) -> PreviewCost {
        let wholes = frames.div_ceil(WHOLE_EVERY_FRAMES) as f64;
        let followers = frames as f64 - wholes;
        let total = |whole: f64, next: f64| wholes * whole + followers * next;
        PreviewCost {
            frames,
            seconds: total(self.whole.seconds, self.next.seconds),
            bytes: (total(self.whole.bytes, self.next.bytes) + other_bytes).round() as u64,
        }
    }
}

/// Frames to time after one that took so long: enough to mean something, and no more than `budget_s` takes.
pub(super) fn frames_within(budget_s: f64, frame_s: f64, frames_max: u32) -> u32 {
    let affordable = budget_s / frame_s.max(1e-6);
    (affordable as u32).clamp(2, frames_max.max(2)).min(frames_max)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn timed(first: (f64, f64), all: (f64, f64), frames: u32) -> Timed {
        let spent = |(seconds, bytes)| Spent { seconds, bytes };
        Timed {
            first: spent(first),
            all: spent(all),
            frames,
        }
    }

    #[test]
    fn first_and_next_frames_are_told_apart() {
        let rate = Rate::of(&[
            timed((2.0, 1000.0), (4.0, 2000.0), 11),
            timed((4.0, 3000.0), (5.0, 3500.0), 6),
        ])
        .unwrap();
        assert_eq!((rate.whole.seconds, rate.whole.bytes), (3.0, 2000.0));
        assert_eq!((rate.next.seconds, rate.next.bytes), (0.2, 100.0));
        let cost = rate.cost(192, 7.0);
        assert_eq!(cost.bytes, 2 * 2000 + 190 * 100 + 7);
        assert!((cost.seconds - (6.0 + 38.0)).abs() < 1e-9);
    }

    #[test]
    fn a_single_frame_counts_for_all_and_none_for_nothing() {
        let rate = Rate::of(&[timed((2.0, 10.0), (2.0, 10.0), 1)]).unwrap();
        assert_eq!(rate.next, rate.whole);
        assert_eq!(rate.cost(0, 0.0).seconds, 0.0);
        assert!(Rate::of(&[]).is_none());
    }

    #[test]
    fn slow_networks_are_timed_on_fewer_frames() {
        assert_eq!(frames_within(10.0, 0.1, 24), 24);
        assert_eq!(frames_within(10.0, 2.0, 24), 5);
        assert_eq!(frames_within(10.0, 60.0, 24), 2);
        assert_eq!(frames_within(10.0, 0.1, 1), 1);
    }
}
