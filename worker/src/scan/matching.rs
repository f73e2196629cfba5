//! Which DVD title is which Blu-ray file: the likeliest pair first, each proven before it counts. Pure but for the proof.

use crate::error::WorkError;

/// Sharing this many of its frames with a file makes a title worth the exact comparison; an opening that all episodes share is
/// less.
const PROPOSED_SHARE_MIN: f64 = 0.3;

/// Why a title has no partner.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Alone {
    /// There was nothing to compare with.
    NoOther,
    /// Nothing shows enough of it.
    Unlike {
        /// The nearest title of the other side.
        nearest: usize,
        /// The share of the DVD's frames that both show.
        share: f64,
    },
    /// Its likeliest partner has a better one.
    Taken {
        /// The title of the other side.
        partner: usize,
        /// The title of its own side that has it.
        by: usize,
    },
    /// Much of it is shared, but the exact comparison refused.
    Refused {
        /// The title of the other side.
        partner: usize,
        /// The refusal.
        reason: String,
    },
}

/// What belongs together and what does not.
#[derive(Debug, PartialEq)]
pub(super) struct Matching {
    /// Number of the DVD title, number of the Blu-ray title, share of the DVD's frames; in DVD order.
    pub(super) pairs: Vec<(usize, usize, f64)>,
    /// DVD titles without a partner.
    pub(super) sd_alone: Vec<(usize, Alone)>,
    /// Blu-ray titles without a partner.
    pub(super) hd_alone: Vec<(usize, Alone)>,
}

/// Proves a pair, or says why it is none.
pub(super) type Proof<'a> = dyn FnMut(usize, usize) -> Result<Result<(), String>, WorkError> + 'a;

/// Matches by `shares[sd][hd]`.
pub(super) fn match_titles(
    shares: &[Vec<f64>],
    hd_count: usize,
    prove: &mut Proof<'_>,
) -> Result<Matching, WorkError> {
    let mut proposals: Vec<(f64, usize, usize)> = Vec::new();
    for (sd, row) in shares.iter().enumerate() {
        let likely = row
            .iter()
            .enumerate()
            .filter(|&(_, &share)| share >= PROPOSED_SHARE_MIN);
        proposals.extend(likely.map(|(hd, &share)| (share, sd, hd)));
    }
    proposals.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut pairs: Vec<(usize, usize, f64)> = Vec::new();
    let mut refused: Vec<(usize, usize, String)> = Vec::new();
    for (share, sd, hd) in proposals {
        if pairs.iter().any(|pair| pair.0 == sd || pair.1 == hd) {
            continue;
        }
        match prove(sd, hd)? {
            Ok(()) => pairs.push((sd, hd, share)),
            Err(reason) => refused.push((sd, hd, reason)),
        }
    }
    pairs.sort_by_key(|pair| pair.0);
    let sd_alone = (0..shares.len()).filter(|&sd| pairs.iter().all(|pair| pair.0 != sd));
    let sd_alone = sd_alone.map(|sd| {
        let row = (0..hd_count).map(|hd| shares[sd][hd]).collect();
        let holder = |hd| pairs.iter().find(|pair| pair.1 == hd).map(|pair| pair.0);
        let refusal = |hd| {
            refused
                .iter()
                .find(|r| (r.0, r.1) == (sd, hd))
                .map(|r| r.2.clone())
        };
        (sd, why_alone(row, &holder, &refusal))
    });
    let hd_alone = (0..hd_count).filter(|&hd| pairs.iter().all(|pair| pair.1 != hd));
    let hd_alone = hd_alone.map(|hd| {
        let column = shares.iter().map(|row| row[hd]).collect();
        let holder = |sd| pairs.iter().find(|pair| pair.0 == sd).map(|pair| pair.1);
        let refusal = |sd| {
            refused
                .iter()
                .find(|r| (r.0, r.1) == (sd, hd))
                .map(|r| r.2.clone())
        };
        (hd, why_alone(column, &holder, &refusal))
    });
    let (sd_alone, hd_alone) = (sd_alone.collect(), hd_alone.collect());
    Ok(Matching {
        pairs,
        sd_alone,
        hd_alone,
    })
}

fn why_alone(
    shares: Vec<f64>,
    holder: &dyn Fn(usize) -> Option<usize>,
    refusal: &dyn Fn(usize) -> Option<String>,
) -> Alone {
    let nearest = shares
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    let Some((nearest, &share)) = nearest else {
        return Alone::NoOther;
    };
    if share < PROPOSED_SHARE_MIN {
        return Alone::Unlike { nearest, share };
    }
    match (refusal(nearest), holder(nearest)) {
        (Some(reason), _) => Alone::Refused {
            partner: nearest,
            reason,
        },
        (None, Some(by)) => Alone::Taken { partner: nearest, by },
        (None, None) => Alone::Unlike { nearest, share },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_better_pair_wins_and_the_loser_hears_of_it() {
        let shares = [vec![0.6, 0.1], vec![0.9, 0.0], vec![0.0, 0.02]];
        let found = match_titles(&shares, 2, &mut |_, _| Ok(Ok(()))).unwrap();
        assert_eq!(found.pairs, [(1, 0, 0.9)]);
        assert_eq!(found.sd_alone[0], (0, Alone::Taken { partner: 0, by: 1 }));
        assert_eq!(
            found.sd_alone[1].1,
            Alone::Unlike {
                nearest: 1,
                share: 0.02
            }
        );
        assert_eq!(
            found.hd_alone,
            [(
                1,
                Alone::Unlike {
                    nearest: 0,
                    share: 0.1
                }
            )]
        );
    }

    #[test]
    fn a_refused_pair_leaves_its_titles_to_others() {
        let shares = [vec![0.9, 0.5], vec![0.1, 0.4]];
        let mut prove = |sd, hd| {
            Ok(if (sd, hd) == (0, 0) {
                Err("another cut".to_owned())
            } else {
                Ok(())
            })
        };
        let found = match_titles(&shares, 2, &mut prove).unwrap();
        assert_eq!(found.pairs, [(0, 1, 0.5)]);
        assert_eq!(found.sd_alone, [(1, Alone::Taken { partner: 1, by: 0 })]);
        let refused = Alone::Refused {
            partner: 0,
            reason: "another cut".to_owned(),
        };
        assert_eq!(found.hd_alone, [(0, refused)]);
    }

    #[test]
    fn nothing_to_compare_with_is_said() {
        let found = match_titles(&[vec![]], 0, &mut |_, _| Ok(Ok(()))).unwrap();
        assert_eq!(found.sd_alone, [(0, Alone::NoOther)]);
    }
}
