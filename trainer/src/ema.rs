//! The moving average of a network's weights: what is judged and published, since single steps are noisy.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;
use remaster_model::{HostTensor, ParamPath, StateDict};

/// Share of the old average kept at a step of a stage, counted from 0. Rises to `decay`: a short run would
/// otherwise still carry the weights it began with.
#[must_use]
pub fn decay_at(step: u64, decay: f64) -> f64 {
    decay.min((1 + step) as f64 / (10 + step) as f64)
}

/// Moves the average towards the live weights.
#[must_use]
pub fn follow<M: Module>(average: M, live: &M, decay: f64) -> M {
    let mut reader = Reader {
        path: ParamPath::default(),
        live: BTreeMap::new(),
    };
    live.visit(&mut reader);
    average.map(&mut Follower {
        path: ParamPath::default(),
        live: reader.live,
        decay,
    })
}

/// `(1 - alpha) * from + alpha * to`, parameter by parameter. Both are of one network.
#[must_use]
pub fn interpolate(from: &StateDict, to: &StateDict, alpha: f64) -> StateDict {
    let mix = |(key, from): (&String, &HostTensor)| {
        let to = to.get(key)?;
        let between = |(a, b): (&f32, &f32)| ((1.0 - alpha) * f64::from(*a) + alpha * f64::from(*b)) as f32;
        let values = from.values.iter().zip(&to.values).map(between).collect();
        Some((
            key.clone(),
            HostTensor {
                shape: from.shape.clone(),
                values,
            },
        ))
    };
    from.iter().filter_map(mix).collect()
}

struct Reader {
    path: ParamPath,
    live: BTreeMap<String, Tensor<1>>,
}

impl ModuleVisitor for Reader {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let count = param.dims().iter().product::<usize>();
        self.live
            .insert(self.path.key(), param.val().inner().reshape([count]));
    }
}

struct Follower {
    path: ParamPath,
    live: BTreeMap<String, Tensor<1>>,
    decay: f64,
}

impl ModuleMapper for Follower {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(live) = self.live.remove(&self.path.key()) else {
            return param;
        };
        let shape = param.dims();
        param.map(|old| old * self.decay + live.reshape(shape) * (1.0 - self.decay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_forgets_fast_at_first_and_slowly_later() {
        assert!((decay_at(0, 0.999) - 0.1).abs() < 1e-12);
        assert!(decay_at(100, 0.999) < decay_at(1000, 0.999));
        assert!((decay_at(1_000_000, 0.999) - 0.999).abs() < 1e-12);
    }

    #[test]
    fn a_mixture_lies_between() {
        let state = |value: f32| {
            StateDict::from([(
                "a".to_owned(),
                HostTensor {
                    shape: vec![2],
                    values: vec![value, 2.0 * value],
                },
            )])
        };
        assert_eq!(interpolate(&state(1.0), &state(5.0), 0.25), state(2.0));
    }
}
