//! The door to `native/`: the gradient of a convolution, which libtorch has as a function and tch does not pass on, and what
//! the C library does with memory that is freed. The only place with unsafe code; what is on its other side neither throws
//! nor keeps anything.
#![expect(
    unsafe_code,
    reason = "calls what libtorch and the C library have and no crate passes on"
)]

use std::ffi::{CStr, c_char, c_void};

use tch::Tensor;

/// Longest message of libtorch that is passed on, with the zero at its end: the rest is a stack of addresses.
const MESSAGE_BYTES: usize = 1024;

unsafe extern "C" {
    fn remaster_keep_freed_memory();
    fn remaster_leaky_relu_in_place(
        tensor: *mut c_void,
        slope: f64,
        message: *mut c_char,
        message_bytes: usize,
    ) -> bool;
    fn remaster_convolution_backward(
        gradient: *const c_void,
        input: *const c_void,
        weight: *const c_void,
        stride: i64,
        padding: i64,
        wanted: *const bool,
        found: *mut *mut c_void,
        message: *mut c_char,
        message_bytes: usize,
    ) -> bool;
}

/// See [`crate::keep_freed_memory`].
pub(crate) fn keep_freed_memory() {
    // SAFETY: it sets options of the allocator, which takes its own locks.
    unsafe { remaster_keep_freed_memory() }
}

/// A ReLU with a slope below 0, in place.
///
/// # Errors
/// libtorch's words: a tensor of whole numbers.
pub(crate) fn leaky_relu_in_place(mut tensor: Tensor, slope: f64) -> Result<Tensor, String> {
    let mut message = [0; MESSAGE_BYTES];
    // SAFETY: the tensor outlives the call, and the message is as long as it says.
    let done = unsafe {
        remaster_leaky_relu_in_place(
            tensor.as_mut_ptr().cast(),
            slope,
            message.as_mut_ptr(),
            MESSAGE_BYTES,
        )
    };
    if done { Ok(tensor) } else { Err(text_of(&message)) }
}

/// Gradients for input, weight and bias of a convolution with square stride and padding, as far as they are `wanted`.
///
/// # Errors
/// libtorch's words: shapes that do not fit, or no memory.
pub(crate) fn convolution_backward(
    gradient: &Tensor,
    [input, weight]: [&Tensor; 2],
    [stride, padding]: [i64; 2],
    wanted: [bool; 3],
) -> Result<[Option<Tensor>; 3], String> {
    let mut found = [std::ptr::null_mut::<c_void>(); 3];
    let mut message = [0; MESSAGE_BYTES];
    // SAFETY: the three tensors outlive the call, and the arrays are as long as the other side takes them to be.
    let done = unsafe {
        remaster_convolution_backward(
            gradient.as_ptr().cast(),
            input.as_ptr().cast(),
            weight.as_ptr().cast(),
            stride,
            padding,
            wanted.as_ptr(),
            found.as_mut_ptr(),
            message.as_mut_ptr(),
            MESSAGE_BYTES,
        )
    };
    if !done {
        return Err(text_of(&message));
    }
    // SAFETY: what is not null was made for us alone by the call.
    Ok(found.map(|tensor| (!tensor.is_null()).then(|| unsafe { Tensor::from_ptr(tensor.cast()) })))
}

fn text_of(message: &[c_char; MESSAGE_BYTES]) -> String {
    let bytes = message.map(|byte| byte.cast_unsigned());
    let text = CStr::from_bytes_until_nul(&bytes).unwrap_or_default();
    text.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn ones(shape: [i64; 4]) -> Tensor {
        Tensor::ones(shape, (Kind::Float, Device::Cpu))
    }

    #[test]
    fn only_what_is_wanted_is_found() {
        let (x, weight, gradient) = (ones([1, 2, 4, 4]), ones([3, 2, 3, 3]), ones([1, 3, 4, 4]));
        let found = convolution_backward(&gradient, [&x, &weight], [1, 1], [false, true, true]);
        let [of_x, of_weight, of_bias] = found.expect("the shapes fit");
        assert!(of_x.is_none());
        // The middle of the kernel meets all 16 pixels, a corner the 9 that are not at the edge.
        let of_weight = of_weight.expect("was wanted");
        assert_eq!(of_weight.double_value(&[2, 1, 1, 1]), 16.0);
        assert_eq!(of_weight.double_value(&[0, 0, 0, 2]), 9.0);
        assert_eq!(of_bias.expect("was wanted").double_value(&[1]), 16.0);
    }

    #[test]
    fn a_leaky_relu_is_made_in_place() {
        let tensor = Tensor::from_slice(&[-2.0_f32, 0.0, 3.0]);
        let same = tensor.shallow_clone();
        let leaky = leaky_relu_in_place(tensor, 0.25).expect("a tensor of numbers");
        assert_eq!(
            Vec::<f32>::try_from(&leaky).expect("three numbers"),
            [-0.5, 0.0, 3.0]
        );
        assert_eq!(leaky.data_ptr(), same.data_ptr());
    }

    #[test]
    fn shapes_that_do_not_fit_are_told_in_words() {
        let (x, weight, gradient) = (ones([1, 2, 4, 4]), ones([3, 5, 3, 3]), ones([1, 3, 4, 4]));
        let found = convolution_backward(&gradient, [&x, &weight], [1, 1], [true; 3]);
        assert!(!found.expect_err("five channels are not two").is_empty());
    }
}
