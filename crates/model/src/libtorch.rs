//! The layers on libtorch, with its own gradients: burn's generic weight gradient is a
//! convolution with a kernel as large as the picture, and a leaky ReLU of burn's own operations goes over memory ten times.
//!
//! burn keeps the inputs of a convolution unchanged until its backward pass, since somebody holds them.
#![expect(
    deprecated,
    reason = "burn marks libtorch deprecated; it is still the fastest backend on both CPU and CUDA"
)]

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::libtorch::TchTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, LibTorch};
use tch::Tensor;

use crate::layers::Layers;
use crate::native::{convolution_backward, leaky_relu_in_place};

/// Both sides of every convolution here are padded by one pixel.
const PADDING_PX: i64 = 1;

impl Layers for LibTorch {
    fn convolve(x: TchTensor, weight: TchTensor, stride_px: usize) -> TchTensor {
        TchTensor::new(convolution(&x.tensor, &weight.tensor, None, stride_px))
    }

    fn convolve_biased(x: TchTensor, weight: TchTensor, bias: TchTensor, stride_px: usize) -> TchTensor {
        TchTensor::new(convolution(
            &x.tensor,
            &weight.tensor,
            Some(bias.tensor),
            stride_px,
        ))
    }

    fn leaky_relu(x: TchTensor, slope: f64) -> TchTensor {
        x.unary_ops(|x| leaky(x, slope), |x| leaky(x.copy(), slope))
    }

    fn prelu_each(x: TchTensor, slopes: TchTensor) -> TchTensor {
        TchTensor::new(x.tensor.prelu(&slopes.tensor))
    }
}

impl<C: CheckpointStrategy> Layers for Autodiff<LibTorch, C> {
    fn convolve(x: FloatTensor<Self>, weight: FloatTensor<Self>, stride_px: usize) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let output = LibTorch::convolve(x.clone(), weight.clone(), stride_px);
        let prepared = Convolution.prepare::<C>([x_node, weight_node]);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(Inputs { x, weight, stride_px }, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn convolve_biased(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride_px: usize,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let (bias, bias_node) = bias.into_parts();
        let output = LibTorch::convolve_biased(x.clone(), weight.clone(), bias, stride_px);
        let prepared = Convolution.prepare::<C>([x_node, weight_node, bias_node]);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(Inputs { x, weight, stride_px }, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn leaky_relu(x: FloatTensor<Self>, slope: f64) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let output = LibTorch::leaky_relu(x, slope);
        match Leaky.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((output.clone(), slope), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }

    fn prelu_each(x: FloatTensor<Self>, slopes: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (slopes, slopes_node) = slopes.into_parts();
        let output = LibTorch::prelu_each(x.clone(), slopes.clone());
        let prepared = LeakyEach.prepare::<C>([x_node, slopes_node]);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((x, slopes), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

fn convolution(x: &Tensor, weight: &Tensor, bias: Option<Tensor>, stride_px: usize) -> Tensor {
    let stride = stride_of(stride_px);
    x.conv2d(
        weight,
        bias,
        [stride, stride],
        [PADDING_PX, PADDING_PX],
        [1, 1],
        1,
    )
}

fn stride_of(stride_px: usize) -> i64 {
    i64::try_from(stride_px).expect("strides are 1 or 2")
}

/// In place.
fn leaky(x: Tensor, slope: f64) -> Tensor {
    leaky_relu_in_place(x, slope).unwrap_or_else(|message| fail(&message))
}

/// burn's operations cannot fail, so it is told as tch tells whatever fails in libtorch.
fn fail(message: &str) -> ! {
    panic!("{message}")
}

/// What a convolution's gradients are made of.
#[derive(Debug, Clone)]
struct Inputs {
    x: TchTensor,
    weight: TchTensor,
    stride_px: usize,
}

#[derive(Debug)]
struct Convolution;

/// Of input and weight, and of the bias where there is one.
impl<const N: usize> Backward<LibTorch, N> for Convolution {
    type State = Inputs;

    fn backward(self, ops: Ops<Inputs, N>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<LibTorch>(&ops.node);
        let Inputs { x, weight, stride_px } = ops.state;
        let mut wanted = [false; 3];
        for (wanted, node) in wanted.iter_mut().zip(&ops.parents) {
            *wanted = node.is_some();
        }
        let inputs = [&x.tensor, &weight.tensor];
        let found = convolution_backward(
            &gradient.tensor,
            inputs,
            [stride_of(stride_px), PADDING_PX],
            wanted,
        );
        let found = found.unwrap_or_else(|message| fail(&message));
        for (node, found) in ops.parents.into_iter().zip(found) {
            if let (Some(node), Some(found)) = (node, found) {
                grads.register::<LibTorch>(node.id, TchTensor::new(found));
            }
        }
    }
}

#[derive(Debug)]
struct Leaky;

impl Backward<LibTorch, 1> for Leaky {
    /// What came out, which has the sign of what went in, and the slope.
    type State = (TchTensor, f64);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<LibTorch>(&ops.node);
        let ([Some(node)], (output, slope)) = (ops.parents, ops.state) else {
            return;
        };
        let found = output.tensor.leaky_relu_backward(&gradient.tensor, slope, true);
        grads.register::<LibTorch>(node.id, TchTensor::new(found));
    }
}

#[derive(Debug)]
struct LeakyEach;

impl Backward<LibTorch, 2> for LeakyEach {
    /// What went in, and the slopes.
    type State = (TchTensor, TchTensor);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<LibTorch>(&ops.node);
        let (x, slopes) = ops.state;
        let [x_node, slopes_node] = ops.parents;
        let by_channel = slopes.tensor.view([1, -1, 1, 1]);
        let (of_x, of_slopes) = x
            .tensor
            .internal_prelu_kernel_backward(&gradient.tensor, &by_channel);
        if let Some(node) = x_node {
            grads.register::<LibTorch>(node.id, TchTensor::new(of_x));
        }
        if let Some(node) = slopes_node {
            let dims = [0, 2, 3].as_slice();
            let sum = of_slopes.sum_dim_intlist(dims, false, slopes.tensor.kind());
            grads.register::<LibTorch>(node.id, TchTensor::new(sum));
        }
    }
}
