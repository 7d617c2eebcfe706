// The operators as the kernels' files define them.
#pragma once

#include <ATen/ATen.h>

namespace fastfcn {
using at::Tensor;

Tensor pointwise(const Tensor& features, const Tensor& packed, const Tensor& bias, bool relu, int64_t stride);
void pointwise_onto(const Tensor& residual, const Tensor& features, const Tensor& packed, const Tensor& bias, bool relu,
                    int64_t stride);
Tensor pointwise_pair(const Tensor& features, const Tensor& packed, const Tensor& bias, bool relu,
                      const Tensor& shortcut, const Tensor& shortcut_packed, int64_t stride);
Tensor winograd(const Tensor& features, const Tensor& taps, const Tensor& bias, bool relu, int64_t stride,
                int64_t dilation, int64_t longest, bool lines = false);
void winograd_onto(const Tensor& residual, const Tensor& features, const Tensor& taps, const Tensor& bias, bool relu,
                   int64_t stride, int64_t dilation, int64_t longest);
Tensor jpu(const at::TensorList& maps, const Tensor& taps, const Tensor& packed, const Tensor& bias,
           at::IntArrayRef dilations, bool align_corners, const std::optional<Tensor>& next_packed,
           const std::optional<Tensor>& next_bias);
Tensor pack_taps(const Tensor& weight, bool transposed);
Tensor winograd_weight_gradient(const Tensor& features, const Tensor& gradients, int64_t dilation, int64_t longest);
Tensor depthwise(const Tensor& features, const Tensor& weight, const Tensor& shift, int64_t dilation);
Tensor depthwise_weight_gradient(const Tensor& features, const Tensor& gradients, int64_t dilation);
std::tuple<Tensor, Tensor> channel_moments(const Tensor& features);
Tensor winograd_pool(const Tensor& features, const Tensor& taps, const Tensor& bias, int64_t longest);
Tensor stem(const Tensor& images, const Tensor& packed, const Tensor& bias, int64_t kernel, bool pool);
Tensor max_pool(const Tensor& features);
Tensor encode(const Tensor& features, const Tensor& packed, const Tensor& scale);
Tensor labels(const Tensor& logits, int64_t height, int64_t width, bool align_corners);
Tensor bottlenecks(const Tensor& features, const at::TensorList& weights, const at::TensorList& biases, int64_t stride,
                   at::IntArrayRef dilations, int64_t longest);
Tensor class_weights(const Tensor& codes, const Tensor& scale, const Tensor& shift, const Tensor& gate,
                     const Tensor& gate_bias, const Tensor& packed);
bool use_arena(bool on);
}  // namespace fastfcn
