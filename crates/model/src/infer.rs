//! One call from RGB to larger RGB, without gradients. Tiles, colours and clamping are the caller's.

use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use crate::{Generator, ModelError};

/// Planar RGB pictures of one size: `count * 3 * height_px * width_px` floats, 0..1.
#[derive(Debug, Clone, PartialEq)]
pub struct RgbBatch {
    /// Pictures.
    pub count: usize,
    /// Lines of each.
    pub height_px: usize,
    /// Columns of each.
    pub width_px: usize,
    /// Samples: picture, channel, line, column; column fastest.
    pub samples: Vec<f32>,
}

/// Smaller pictures go another way through libtorch, which rounds otherwise in the last bit.
pub const PART_SIDE_MIN_PX: usize = 40;

/// Runs the network. Sides that a pixel-unshuffle network cannot divide are padded by repeating the edge and
/// cropped again. On a CPU the same input gives the same bits at the same number of threads.
///
/// The pixels go in with their channels side by side (channels-last). libtorch's CPU convolutions are a quarter faster
/// on that order, and they add up each pixel alike whatever the size of the picture, so a part of a picture with the
/// network's whole reach around it comes out as it does within the whole. That holds from [`PART_SIDE_MIN_PX`] up.
///
/// # Errors
/// [`ModelError::Picture`] when the samples are not what the sizes say.
pub fn upscale_rgb(generator: &Generator, batch: RgbBatch) -> Result<RgbBatch, ModelError> {
    upscale_as(generator, batch, FloatDType::F32)
}

/// The same with a network whose weights are of another kind.
pub(crate) fn upscale_as(
    generator: &Generator,
    batch: RgbBatch,
    dtype: FloatDType,
) -> Result<RgbBatch, ModelError> {
    let expected = batch.count * 3 * batch.height_px * batch.width_px;
    if batch.samples.len() != expected || expected == 0 {
        let text = format!("{} samples instead of {expected}", batch.samples.len());
        return Err(ModelError::Picture(text));
    }
    let (height_px, width_px) = (batch.height_px, batch.width_px);
    let device = device_of(generator);
    let padded = pad_to_multiple(batch, generator.size_multiple_px());
    let input_height_px = padded.height_px;
    let shape = [padded.count, padded.height_px, padded.width_px, 3];
    let samples = channels_last(&padded);
    let input = Tensor::<4>::from_data(TensorData::new(samples, shape), &device).permute([0, 3, 1, 2]);
    let output = generator.forward(input.cast(dtype)).inner().cast(FloatDType::F32);
    let scale = output.dims()[2] / input_height_px;
    let [count, ..] = output.dims();
    let cropped = output.slice([0..count, 0..3, 0..height_px * scale, 0..width_px * scale]);
    let samples = cropped
        .try_into_vec_as::<f32>()
        .map_err(|error| ModelError::Picture(format!("unreadable output: {error}")))?;
    Ok(RgbBatch {
        count,
        height_px: height_px * scale,
        width_px: width_px * scale,
        samples,
    })
}

fn channels_last(batch: &RgbBatch) -> Vec<f32> {
    let plane = batch.height_px * batch.width_px;
    let mut samples = Vec::with_capacity(batch.samples.len());
    for picture in batch.samples.chunks_exact(3 * plane) {
        let (red, rest) = picture.split_at(plane);
        let (green, blue) = rest.split_at(plane);
        for ((&red, &green), &blue) in red.iter().zip(green).zip(blue) {
            samples.extend([red, green, blue]);
        }
    }
    samples
}

fn device_of(generator: &Generator) -> Device {
    let devices = generator.devices();
    devices
        .into_iter()
        .next()
        .expect("every generator has parameters")
        .without_autodiff()
}

fn pad_to_multiple(batch: RgbBatch, multiple_px: usize) -> RgbBatch {
    let height_px = batch.height_px.next_multiple_of(multiple_px);
    let width_px = batch.width_px.next_multiple_of(multiple_px);
    if (height_px, width_px) == (batch.height_px, batch.width_px) {
        return batch;
    }
    let mut samples = Vec::with_capacity(batch.count * 3 * height_px * width_px);
    for plane in batch.samples.chunks_exact(batch.height_px * batch.width_px) {
        for y in 0..height_px {
            let start = y.min(batch.height_px - 1) * batch.width_px;
            let line = &plane[start..start + batch.width_px];
            samples.extend_from_slice(line);
            samples.extend(std::iter::repeat_n(
                line[batch.width_px - 1],
                width_px - batch.width_px,
            ));
        }
    }
    RgbBatch {
        count: batch.count,
        height_px,
        width_px,
        samples,
    }
}
