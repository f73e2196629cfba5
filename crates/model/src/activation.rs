//! ReLUs with a slope below 0, as `r + slope * (x - r)` with `r = relu(x)`. The values are exactly those of the
//! usual form; its gradient needs no mask and takes half the time, which was a fifth of a training step of the
//! Compact network.

use burn::tensor::Tensor;
use burn::tensor::activation::{prelu as native_prelu, relu};

/// One slope for all.
pub(crate) fn leaky_relu(x: Tensor<4>, slope: f64) -> Tensor<4> {
    let positive = relu(x.clone());
    (x - positive.clone()) * slope + positive
}

/// One slope per channel. Without gradients the backend's own is one pass over memory.
pub(crate) fn prelu(x: Tensor<4>, slopes: Tensor<1>) -> Tensor<4> {
    if !x.is_autodiff() && !slopes.is_autodiff() {
        return native_prelu(x, slopes);
    }
    let [channels] = slopes.dims();
    let positive = relu(x.clone());
    (x - positive.clone()) * slopes.reshape([1, channels, 1, 1]) + positive
}
