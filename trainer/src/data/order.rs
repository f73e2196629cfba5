//! Which pair and which crop of it stands at which place of which batch: pure functions of (seed, batch number), so
//! a resumed run sees the very batches it would have seen, whatever was prefetched.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// A crop of a pair, before the pair is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// Position in the endless sequence of pairs.
    pub position: u64,
    /// Number of the crop within its pair.
    pub crop: u64,
}

/// Where a slot of a batch takes its crop from. Every slot keeps a pair for `crops_per_pair` batches; slots change
/// their pairs in turn, so that reading and decoding is spread evenly and no batch has two crops of one position.
#[must_use]
pub fn draw(batch: u64, slot: usize, batch_size: usize, crops_per_pair: usize) -> Draw {
    let stagger = slot * crops_per_pair / batch_size;
    let turn = batch + stagger as u64;
    let crops = crops_per_pair as u64;
    Draw {
        position: (turn / crops) * batch_size as u64 + slot as u64,
        crop: turn % crops,
    }
}

/// Whether a slot needs another pair than in the batch before.
#[must_use]
pub fn is_new(batch: u64, slot: usize, batch_size: usize, crops_per_pair: usize) -> bool {
    draw(batch, slot, batch_size, crops_per_pair).crop == 0
}

/// The endless sequence of pairs: a fresh permutation of all of them for every epoch. Keeps the last two epochs,
/// since staggered slots look back over the seam.
#[derive(Debug)]
pub struct Order {
    seed: u64,
    len: usize,
    epochs: [(u64, Vec<u32>); 2],
}

impl Order {
    /// Over `len` pairs, at least one.
    #[must_use]
    pub fn new(seed: u64, len: usize) -> Self {
        let epochs = [0, 1].map(|epoch| (epoch, permutation(seed, epoch, len)));
        Self { seed, len, epochs }
    }

    /// The pair at a position.
    #[must_use]
    pub fn pair_at(&mut self, position: u64) -> usize {
        let epoch = position / self.len as u64;
        let within = (position % self.len as u64) as usize;
        let kept = &mut self.epochs[(epoch % 2) as usize];
        if kept.0 != epoch {
            *kept = (epoch, permutation(self.seed, epoch, self.len));
        }
        kept.1[within] as usize
    }
}

fn permutation(seed: u64, epoch: u64, len: usize) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // Streams of one seed are independent of each other.
    rng.set_stream(epoch);
    let mut order: Vec<u32> = (0..len as u32).collect();
    order.shuffle(&mut rng);
    order
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_epoch_has_every_pair_once(seed: u64, len in 1..400_usize, epoch in 0..u64::from(u32::MAX)) {
            let mut order = Order::new(seed, len);
            let positions = (0..len as u64).map(|within| epoch * len as u64 + within);
            let mut seen: Vec<usize> = positions.map(|position| order.pair_at(position)).collect();
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..len));
        }

        #[test]
        fn begun_anywhere_the_rest_is_that_of_a_straight_run(
            seed: u64,
            len in 1..40_usize,
            batch_size in 1..9_usize,
            crops_per_pair in 1..9_usize,
            first in 0..200_u64,
        ) {
            let batch = |order: &mut Order, number: u64| -> Vec<(usize, u64)> {
                let draws = (0..batch_size).map(|slot| draw(number, slot, batch_size, crops_per_pair));
                draws.map(|draw| (order.pair_at(draw.position), draw.crop)).collect()
            };
            let (mut straight, mut resumed) = (Order::new(seed, len), Order::new(seed, len));
            for number in 0..first {
                let _ = batch(&mut straight, number);
            }
            for number in first..first + 20 {
                prop_assert_eq!(batch(&mut straight, number), batch(&mut resumed, number));
            }
        }

        #[test]
        fn each_position_gives_each_of_its_crops_exactly_once(batch_size in 1..20_usize, crops in 1..20_usize) {
            let mut seen = BTreeSet::new();
            for batch in 0..60 {
                for slot in 0..batch_size {
                    let draw = draw(batch, slot, batch_size, crops);
                    prop_assert!(seen.insert((draw.position, draw.crop)));
                    prop_assert_eq!(is_new(batch, slot, batch_size, crops), draw.crop == 0);
                }
            }
        }
    }

    #[test]
    fn every_epoch_and_every_seed_has_its_own_order() {
        let epoch = |seed: u64, number: u64| -> Vec<usize> {
            let mut order = Order::new(seed, 50);
            let positions = number * 50..(number + 1) * 50;
            positions.map(|position| order.pair_at(position)).collect()
        };
        assert_eq!(epoch(7, 0), epoch(7, 0));
        assert_ne!(epoch(7, 0), epoch(7, 1));
        assert_ne!(epoch(7, 0), epoch(8, 0));
    }

    #[test]
    fn neighbours_in_the_film_are_not_neighbours_in_the_order() {
        let mut order = Order::new(3, 1000);
        let close = (0..999)
            .filter(|p| order.pair_at(*p).abs_diff(order.pair_at(p + 1)) < 10)
            .count();
        assert!(close < 60, "{close} of 999");
    }

    #[test]
    fn slots_change_their_pairs_in_turn() {
        let changes = |batch| (0..8).filter(|slot| is_new(batch, *slot, 8, 8)).count();
        assert!((8..40).all(|batch| changes(batch) == 1));
    }
}
