//! Which backend computes. burn-tch is deprecated upstream since burn 0.22, so the whole of that choice lies here and in
//! `libtorch.rs`: another backend is another arm below and, where it brings layers of its own, another such file.

use burn::tensor::Device;

use crate::ModelError;

/// Where tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// libtorch on the CPU.
    LibtorchCpu,
    /// libtorch on the GPU of that number.
    LibtorchCuda(usize),
    /// burn's own CPU backend, in pure Rust.
    Flex,
}

impl Default for DeviceKind {
    /// libtorch's CPU where it is built in, burn's own otherwise.
    fn default() -> Self {
        if cfg!(feature = "tch") {
            Self::LibtorchCpu
        } else {
            Self::Flex
        }
    }
}

/// A device without gradients; `.autodiff()` on it gives the one to train on.
///
/// # Errors
/// [`ModelError::Device`] when the build lacks the backend, [`ModelError::NoGpu`] when the machine lacks the GPU: burn would
/// panic at the first tensor.
pub fn device(kind: DeviceKind) -> Result<Device, ModelError> {
    match kind {
        DeviceKind::LibtorchCpu | DeviceKind::LibtorchCuda(_) => libtorch(kind),
        DeviceKind::Flex => flex(),
    }
}

/// Bounds the threads of one operation. Without it libtorch takes every core; two workers on one machine then
/// fight. Results are bit-identical only at an equal number of threads.
pub fn set_threads(threads: usize) {
    #[cfg(feature = "tch")]
    tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
    #[cfg(not(feature = "tch"))]
    let _ = threads;
}

/// Keeps the memory of tensors that are gone for the next ones, up to the most that was ever needed. To be called once, before
/// a process starts its threads: each that has asked for memory by then may go on as before.
///
/// Every layer frees some hundred MB and the next one asks for as much. glibc gives what is so large back to the kernel,
/// which then clears it page by page, over and over: a third of the time of a network on a CPU. What is kept is asked for in
/// pages of 2 MiB: with pages of 4 KiB that a process keeps, one run of a training was a tenth slower than another, step
/// by step.
pub fn keep_freed_memory() {
    #[cfg(feature = "tch")]
    crate::native::keep_freed_memory();
}

#[cfg(feature = "tch")]
#[expect(
    deprecated,
    reason = "burn marks libtorch deprecated; it is still the fastest backend on both CPU and CUDA"
)]
fn libtorch(kind: DeviceKind) -> Result<Device, ModelError> {
    let DeviceKind::LibtorchCuda(index) = kind else {
        return Ok(Device::libtorch());
    };
    let seen = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    if index >= seen {
        return Err(ModelError::NoGpu { index, seen });
    }
    Ok(Device::libtorch_cuda(index))
}

#[cfg(not(feature = "tch"))]
fn libtorch(_kind: DeviceKind) -> Result<Device, ModelError> {
    Err(ModelError::Device("tch"))
}

#[cfg(feature = "flex")]
fn flex() -> Result<Device, ModelError> {
    Ok(Device::flex())
}

#[cfg(not(feature = "flex"))]
fn flex() -> Result<Device, ModelError> {
    Err(ModelError::Device("flex"))
}

#[cfg(all(test, feature = "tch"))]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_is_not_there_is_refused_by_its_number() {
        let refused = device(DeviceKind::LibtorchCuda(99));
        assert!(matches!(refused, Err(ModelError::NoGpu { index: 99, .. })));
    }
}
