// Operators that are called by other operators (bottleneck_stage, winograd_pool), documented where they are defined.
#pragma once

#include <ATen/ATen.h>

namespace fastfcn {

at::Tensor pointwise(const at::Tensor& features, const at::Tensor& packed, const at::Tensor& bias, bool relu,
                     int64_t stride);
void pointwise_add_(const at::Tensor& residual, const at::Tensor& features, const at::Tensor& packed,
                    const at::Tensor& bias, bool relu, int64_t stride);
at::Tensor pointwise_pair(const at::Tensor& features, const at::Tensor& packed, const at::Tensor& bias, bool relu,
                          const at::Tensor& shortcut, const at::Tensor& shortcut_packed, int64_t stride);
at::Tensor winograd(const at::Tensor& features, const at::Tensor& taps, const at::Tensor& bias, bool relu,
                    int64_t stride, int64_t dilation, int64_t max_tile, bool channel_blocked);
at::Tensor max_pool(const at::Tensor& features);

}  // namespace fastfcn
