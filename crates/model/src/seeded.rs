//! First weights from a seed. Drawn on the host, not by the backend, so that a seed means the same network on every
//! backend and machine. Networks draw in the order in which they are built.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A source of first weights on one device.
#[derive(Debug)]
pub struct Seeded {
    /// `None` draws zeros.
    rng: Option<ChaCha8Rng>,
    device: Device,
}

impl Seeded {
    /// Draws from `seed` onto `device`.
    #[must_use]
    pub fn new(seed: u64, device: &Device) -> Self {
        Self {
            rng: Some(ChaCha8Rng::seed_from_u64(seed)),
            device: device.clone(),
        }
    }

    /// Draws nothing: zeros everywhere, for a network that is filled at once. Drawing took most of loading a large one.
    pub(crate) fn blank(device: &Device) -> Self {
        Self {
            rng: None,
            device: device.clone(),
        }
    }

    /// Uniform in `-bound..bound`.
    pub(crate) fn uniform<const D: usize>(&mut self, shape: [usize; D], bound: f32) -> Param<Tensor<D>> {
        let values = self.draw(shape.iter().product(), |rng| {
            rng.random_range(-1.0f32..1.0) * bound
        });
        self.param(shape, values)
    }

    /// Normal around 0.
    pub(crate) fn normal<const D: usize>(&mut self, shape: [usize; D], deviation: f32) -> Param<Tensor<D>> {
        let values = self.draw(shape.iter().product(), |rng| standard_normal(rng) * deviation);
        self.param(shape, values)
    }

    /// The same value everywhere.
    pub(crate) fn constant<const D: usize>(&mut self, shape: [usize; D], value: f32) -> Param<Tensor<D>> {
        self.param(shape, vec![value; shape.iter().product()])
    }

    /// A vector of length 1 in a random direction that no gradient changes.
    pub(crate) fn direction(&mut self, len: usize) -> Param<Tensor<1>> {
        let drawn = self.draw(len, standard_normal);
        let length = drawn
            .iter()
            .map(|x| x * x)
            .sum::<f32>()
            .sqrt()
            .max(f32::MIN_POSITIVE);
        let values = drawn.into_iter().map(|x| x / length).collect();
        self.param([len], values).set_require_grad(false)
    }

    fn draw(&mut self, len: usize, one: impl Fn(&mut ChaCha8Rng) -> f32) -> Vec<f32> {
        match &mut self.rng {
            Some(rng) => (0..len).map(|_| one(rng)).collect(),
            None => vec![0.0; len],
        }
    }

    fn param<const D: usize>(&self, shape: [usize; D], values: Vec<f32>) -> Param<Tensor<D>> {
        let tensor = Tensor::<D>::from_data(TensorData::new(values, shape), &self.device);
        let tensor = if self.device.is_autodiff() {
            tensor.require_grad()
        } else {
            tensor
        };
        Param::initialized(ParamId::new(), tensor)
    }
}

/// Box-Muller; the second value is dropped for simplicity, first weights are drawn once.
fn standard_normal(rng: &mut ChaCha8Rng) -> f32 {
    let radius = (-2.0 * rng.random_range(f32::MIN_POSITIVE..1.0).ln()).sqrt();
    radius * (std::f32::consts::TAU * rng.random_range(0.0f32..1.0)).cos()
}
