//! Adam over the named parameters of a network. The rule is burn's; the moments are kept here by parameter name
//! instead of burn's random ids, so that a checkpoint has the same bytes wherever it is written and fits a network
//! built anew.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{Adam as Rule, AdamConfig, AdamState, AdaptiveMomentumState, GradientsParams, Optimizer};
use burn::tensor::{Device, Tensor, TensorData};
use remaster_model::{HostTensor, ParamPath, StateDict};

use crate::guard::LossScale;

/// PyTorch's; burn's default is a thousand times larger.
const EPSILON: f32 = 1e-8;
/// Names of the two moments in a checkpoint, as PyTorch has them.
const FIRST: &str = "exp_avg";
const SECOND: &str = "exp_avg_sq";

/// How far a step may go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Learning rate.
    pub rate: f64,
    /// Share of every weight taken off, times the rate: AdamW's decay.
    pub weight_decay: f64,
    /// Gradients longer than this over all parameters are scaled down to it.
    pub norm_max: Option<f64>,
}

/// Optimiser state of one network.
#[derive(Clone)]
pub struct Adam {
    rule: Rule,
    steps: usize,
    moments: BTreeMap<String, Moments>,
}

impl std::fmt::Debug for Adam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adam")
            .field("steps", &self.steps)
            .field("parameters", &self.moments.len())
            .finish()
    }
}

/// Moments of one parameter, flat: its rank is known where it is used.
#[derive(Debug, Clone)]
struct Moments {
    first: Tensor<1>,
    second: Tensor<1>,
}

impl Adam {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(betas: [f32; 2]) -> Self {
        let rule = AdamConfig::new()
            .with_beta_1(betas[0])
            .with_beta_2(betas[1])
            .with_epsilon(EPSILON)
            .build();
        Self {
            rule,
            steps: 0,
            moments: BTreeMap::new(),
        }
    }

    /// Moves every parameter that has a gradient. Gradients are of a loss that was multiplied by the scale, where there is
    /// one; those that overflowed by it move nothing, and `false` comes back.
    pub fn step<M: Module>(
        &mut self,
        pace: Pace,
        scale: Option<LossScale>,
        module: M,
        gradients: GradientsParams,
    ) -> (M, bool) {
        let unscale = scale.map(|scale| 1.0 / scale.factor());
        let norm = (unscale.is_some() || pace.norm_max.is_some())
            .then(|| gradient_norm(&module, &gradients) * unscale.unwrap_or(1.0));
        if unscale.is_some() && norm.is_some_and(|norm| !norm.is_finite()) {
            return (module, false);
        }
        let clip = norm.zip(pace.norm_max).filter(|(norm, norm_max)| norm > norm_max);
        let clip = clip.map(|(norm, norm_max)| norm_max / norm);
        let shrink = [unscale, clip].into_iter().flatten().reduce(|a, b| a * b);
        let mut mapper = Stepping {
            path: ParamPath::default(),
            adam: self,
            gradients,
            pace,
            shrink,
        };
        let module = module.map(&mut mapper);
        self.steps += 1;
        (module, true)
    }

    /// Steps taken.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Copies the moments into a checkpoint under a prefix.
    pub fn save(&self, prefix: &str, into: &mut StateDict) {
        for (key, moments) in &self.moments {
            for (name, tensor) in [(FIRST, &moments.first), (SECOND, &moments.second)] {
                let values = tensor
                    .clone()
                    .try_into_vec_as::<f32>()
                    .expect("moments are f32 and readable");
                into.insert(
                    format!("{prefix}{name}/{key}"),
                    HostTensor {
                        shape: vec![values.len()],
                        values,
                    },
                );
            }
        }
    }

    /// Continues from the moments of a checkpoint.
    #[must_use]
    pub fn restore(betas: [f32; 2], steps: usize, prefix: &str, from: &StateDict, device: &Device) -> Self {
        let part = |name: &str| {
            let prefix = format!("{prefix}{name}/");
            let found = from
                .iter()
                .filter_map(move |(key, host)| Some((key.strip_prefix(&prefix)?.to_owned(), host)));
            found
                .map(|(key, host)| {
                    let data = TensorData::new(host.values.clone(), [host.values.len()]);
                    (key, Tensor::<1>::from_data(data, device))
                })
                .collect::<BTreeMap<_, _>>()
        };
        let mut second = part(SECOND);
        let both = part(FIRST).into_iter().filter_map(|(key, first)| {
            let second = second.remove(&key)?;
            Some((key, Moments { first, second }))
        });
        Self {
            steps,
            moments: both.collect(),
            ..Self::new(betas)
        }
    }
}

struct Stepping<'a> {
    path: ParamPath,
    adam: &'a mut Adam,
    gradients: GradientsParams,
    pace: Pace,
    shrink: Option<f64>,
}

impl ModuleMapper for Stepping<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(gradient) = self.gradients.remove::<D>(param.id) else {
            return param;
        };
        let gradient = match self.shrink {
            Some(factor) => gradient * factor,
            None => gradient,
        };
        let key = self.path.key();
        let steps = self.adam.steps;
        let shape = param.dims();
        let state = self.adam.moments.remove(&key).map(|moments| {
            let (first, second) = (moments.first.reshape(shape), moments.second.reshape(shape));
            AdamState::new(AdaptiveMomentumState::new(steps, first, second))
        });
        param.map(|old| {
            let kept = 1.0 - self.pace.rate * self.pace.weight_decay;
            let old = if kept < 1.0 {
                old.inner() * kept
            } else {
                old.inner()
            };
            let (new, state) = self.adam.rule.step(self.pace.rate, old, gradient, state);
            if let Some(AdamState { momentum }) = state {
                let count = shape.iter().product::<usize>();
                let (first, second) = (
                    momentum.moment_1.reshape([count]),
                    momentum.moment_2.reshape([count]),
                );
                self.adam.moments.insert(key, Moments { first, second });
            }
            new.autodiff().require_grad()
        })
    }
}

fn gradient_norm<M: Module>(module: &M, gradients: &GradientsParams) -> f64 {
    let mut squares = Squares { gradients, sum: None };
    module.visit(&mut squares);
    squares
        .sum
        .map_or(0.0, |sum| f64::from(sum.into_scalar::<f32>()).sqrt())
}

struct Squares<'a> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let square = gradient.square().sum();
            self.sum = Some(self.sum.take().map_or(square.clone(), |sum| sum + square));
        }
    }
}
