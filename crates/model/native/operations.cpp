// Operations that libtorch has and tch does not pass on: the gradient of a convolution as a function, and a leaky ReLU
// with a slope. Nothing is thrown past here: what goes wrong is written into `message`, and the answer is false.

#include <array>
#include <cstdint>
#include <cstdio>
#include <exception>

#include <ATen/core/Tensor.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/leaky_relu.h>

template <typename Operation>
static bool guarded(Operation operation, char *message, std::size_t message_bytes) noexcept {
    try {
        operation();
        return true;
    } catch (const std::exception &error) {
        std::snprintf(message, message_bytes, "%s", error.what());
        return false;
    }
}

extern "C" bool remaster_leaky_relu_in_place(at::Tensor *tensor, double slope, char *message,
                                             std::size_t message_bytes) noexcept {
    return guarded([&] { at::leaky_relu_(*tensor, slope); }, message, message_bytes);
}

// `wanted` and `found` are in the order of input, weight and bias; what is found belongs to the caller.
extern "C" bool remaster_convolution_backward(const at::Tensor *gradient, const at::Tensor *input,
                                              const at::Tensor *weight, std::int64_t stride, std::int64_t padding,
                                              const bool *wanted, at::Tensor **found, char *message,
                                              std::size_t message_bytes) noexcept {
    const auto operation = [&] {
        const std::array<std::int64_t, 2> strides{stride, stride}, paddings{padding, padding}, ones{1, 1}, zeros{0, 0};
        const std::array<std::int64_t, 1> bias_shape{weight->size(0)};
        auto [of_input, of_weight, of_bias] =
            at::convolution_backward(*gradient, *input, *weight, at::IntArrayRef(bias_shape), strides, paddings, ones,
                                     false, zeros, 1, {wanted[0], wanted[1], wanted[2]});
        const std::array<at::Tensor, 3> all{of_input, of_weight, of_bias};
        for (std::size_t i = 0; i < all.size(); i++) {
            if (wanted[i]) {
                found[i] = new at::Tensor(all[i]);
            }
        }
    };
    return guarded(operation, message, message_bytes);
}
