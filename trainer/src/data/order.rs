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

    use super::*;

    #[test]
    fn every_epoch_has_every_pair_once_and_its_own_order() {
        let mut order = Order::new(7, 50);
        let epoch = |order: &mut Order, number: u64| -> Vec<usize> {
            (number * 50..(number + 1) * 50)
                .map(|position| order.pair_at(position))
                .collect()
        };
        let (first, second) = (epoch(&mut order, 0), epoch(&mut order, 1));
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 50);
        assert_eq!(second.iter().collect::<BTreeSet<_>>().len(), 50);
        assert_ne!(first, second);
        assert_eq!(epoch(&mut Order::new(7, 50), 0), first);
        assert_ne!(epoch(&mut Order::new(8, 50), 0), first);
    }

    #[test]
    fn looking_back_gives_the_same_pair() {
        let mut order = Order::new(1, 3);
        let straight: Vec<_> = (0..30).map(|position| order.pair_at(position)).collect();
        let backwards: Vec<_> = (0..30).rev().map(|position| order.pair_at(position)).collect();
        assert!(straight.iter().eq(backwards.iter().rev()));
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
    fn each_position_gives_each_of_its_crops_exactly_once() {
        let (batch_size, crops) = (4, 6);
        let mut seen = BTreeSet::new();
        for batch in 0..120 {
            for slot in 0..batch_size {
                let draw = draw(batch, slot, batch_size, crops);
                assert!(seen.insert((draw.position, draw.crop)));
                assert_eq!(is_new(batch, slot, batch_size, crops), draw.crop == 0);
            }
        }
    }

    #[test]
    fn slots_change_their_pairs_in_turn() {
        let changes = |batch| (0..8).filter(|slot| is_new(batch, *slot, 8, 8)).count();
        assert!((8..40).all(|batch| changes(batch) == 1));
    }
}
