//! The cheapest path through a table of costs when staying is free and every jump costs the same.
//!
//! Memory is one bit for each cell and one state for each step: costs arrive row by row and are not kept.

/// The best path and what it costs in all.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Path {
    /// State at each step.
    pub(crate) states: Vec<usize>,
    /// Costs and jumps together.
    pub(crate) cost: f64,
}

/// Finds the path over `states` states; the first of equal ones wins, so ties are settled alike everywhere.
pub(crate) fn cheapest_path(
    rows: impl Iterator<Item = Vec<f32>>,
    states: usize,
    jump_cost: f64,
) -> Option<Path> {
    let mut total = vec![0.0f64; states];
    let mut best = 0;
    let mut origins: Vec<(usize, Vec<u64>)> = Vec::new();
    for row in rows {
        let jump_from = total.get(best)? + jump_cost;
        let mut jumped = vec![0u64; states.div_ceil(64)];
        for (state, (sum, cost)) in total.iter_mut().zip(&row).enumerate() {
            if jump_from < *sum {
                *sum = jump_from;
                jumped[state / 64] |= 1 << (state % 64);
            }
            *sum += f64::from(*cost);
        }
        origins.push((best, jumped));
        best = position_of_least(&total);
    }
    let cost = *total.get(best)?;
    let mut states = vec![best; origins.len()];
    for step in (1..states.len()).rev() {
        let (origin, jumped) = &origins[step];
        let state = states[step];
        let has_jumped = jumped[state / 64] >> (state % 64) & 1 == 1;
        states[step - 1] = if has_jumped { *origin } else { state };
    }
    Some(Path { states, cost })
}

fn position_of_least(values: &[f64]) -> usize {
    let mut best = 0;
    for (position, value) in values.iter().enumerate() {
        if *value < values[best] {
            best = position;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// Tries every path.
    fn cheapest_by_force(rows: &[Vec<f32>], jump_cost: f64) -> f64 {
        let states = rows[0].len();
        let mut best = f64::INFINITY;
        for code in 0..states.pow(rows.len() as u32) {
            let at = |step: usize| code / states.pow(step as u32) % states;
            let costs: f64 = (0..rows.len()).map(|i| f64::from(rows[i][at(i)])).sum();
            let jumps = (1..rows.len()).filter(|&i| at(i) != at(i - 1)).count();
            best = best.min(costs + jump_cost * jumps as f64);
        }
        best
    }

    proptest! {
        #[test]
        fn no_other_path_is_cheaper(
            rows in prop::collection::vec(prop::collection::vec(0.0f32..1.0, 3), 1..7),
            jump in 0.0f64..1.0,
        ) {
            let path = cheapest_path(rows.clone().into_iter(), 3, jump).unwrap();
            let own: f64 = path.states.iter().zip(&rows).map(|(&s, row)| f64::from(row[s])).sum();
            let jumps = path.states.windows(2).filter(|w| w[0] != w[1]).count();
            prop_assert!((own + jump * jumps as f64 - path.cost).abs() < 1e-9);
            prop_assert!((path.cost - cheapest_by_force(&rows, jump)).abs() < 1e-9);
        }
    }
}
