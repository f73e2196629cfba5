//! The layers on libtorch, with its own gradients: burn's generic weight gradient is a
//! convolution with a kernel as large as the picture, and a leaky ReLU of burn's own operations goes over memory ten times.
//!
//! tch does not have libtorch's convolution gradient as a function, only behind its autograd. So the forward pass records
//! that one operation on aliases of its inputs, and the backward pass asks the record alone. burn keeps its inputs
//! unchanged until then, since the record holds them, too.
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
        TchTensor::new(leaky(&x.tensor, slope))
    }

    fn prelu_each(x: TchTensor, slopes: TchTensor) -> TchTensor {
        TchTensor::new(x.tensor.prelu(&slopes.tensor))
    }
}

impl<C: CheckpointStrategy> Layers for Autodiff<LibTorch, C> {
    fn convolve(x: FloatTensor<Self>, weight: FloatTensor<Self>, stride_px: usize) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let prepared = Convolution.prepare::<C>([x_node, weight_node]);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (record, output) = Record::of(vec![x, weight], stride_px);
                prepared.finish(record, output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(LibTorch::convolve(x, weight, stride_px)),
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
        let prepared = Convolution.prepare::<C>([x_node, weight_node, bias_node]);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (record, output) = Record::of(vec![x, weight, bias], stride_px);
                prepared.finish(record, output)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(LibTorch::convolve_biased(x, weight, bias, stride_px))
            }
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
    let stride = i64::try_from(stride_px).expect("strides are 1 or 2");
    x.conv2d(
        weight,
        bias,
        [stride, stride],
        [PADDING_PX, PADDING_PX],
        [1, 1],
        1,
    )
}

/// tch's own leaky ReLU has no slope to set.
fn leaky(x: &Tensor, slope: f64) -> Tensor {
    let slope = Tensor::full([1], slope, (x.kind(), x.device()));
    x.prelu(&slope)
}

/// A convolution as libtorch's autograd saw it.
#[derive(Debug, Clone)]
struct Record {
    /// Input, weight and perhaps bias: aliases that ask for gradients.
    leaves: Vec<TchTensor>,
    /// What came out, with its way back.
    output: TchTensor,
    /// While somebody holds them, burn reuses none of the buffers that the aliases see.
    _inputs: Vec<TchTensor>,
}

impl Record {
    fn of(inputs: Vec<TchTensor>, stride_px: usize) -> (Self, TchTensor) {
        let leaf = |input: &TchTensor| input.tensor.data().set_requires_grad(true);
        let leaves: Vec<Tensor> = inputs.iter().map(leaf).collect();
        let bias = leaves.get(2).map(Tensor::shallow_clone);
        let output = convolution(&leaves[0], &leaves[1], bias, stride_px);
        let plain = TchTensor::new(output.detach());
        let record = Self {
            leaves: leaves.into_iter().map(TchTensor::new).collect(),
            output: TchTensor::new(output),
            _inputs: inputs,
        };
        (record, plain)
    }
}

#[derive(Debug)]
struct Convolution;

impl Backward<LibTorch, 2> for Convolution {
    type State = Record;

    fn backward(self, ops: Ops<Record, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        convolution_backward(ops, grads);
    }
}

impl Backward<LibTorch, 3> for Convolution {
    type State = Record;

    fn backward(self, ops: Ops<Record, 3>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        convolution_backward(ops, grads);
    }
}

fn convolution_backward<const N: usize>(ops: Ops<Record, N>, grads: &mut Gradients) {
    let gradient = grads.consume::<LibTorch>(&ops.node);
    let record = ops.state;
    let wanted = ops.parents.into_iter().zip(&record.leaves);
    let wanted: Vec<_> = wanted.filter_map(|(node, leaf)| Some((node?, leaf))).collect();
    let leaves: Vec<&Tensor> = wanted.iter().map(|(_, leaf)| &leaf.tensor).collect();
    // Autograd starts from a number; this one's gradient for the output is the gradient that came in.
    let start = record
        .output
        .tensor
        .flatten(0, -1)
        .dot(&gradient.tensor.flatten(0, -1));
    let found = Tensor::run_backward(&[start], &leaves, false, false);
    for ((node, _), found) in wanted.into_iter().zip(found) {
        grads.register::<LibTorch>(node.id, TchTensor::new(found));
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
