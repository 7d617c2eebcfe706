// Checks of operators' arguments. Every operator checks all of them before it reads any memory: wrong ones raise a
// RuntimeError that names the argument and says what was expected.
#pragma once

#include <ATen/ATen.h>
#include <ATen/MemoryOverlap.h>

#include "gemm/micro_kernel.h"

namespace fastfcn {

constexpr int64_t MAX_SETTING = 1 << 24;  // of strides, dilations and sizes: sums and products cannot overflow

inline bool is_float32_on_cpu(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kFloat && tensor.device().is_cpu() && tensor.layout() == at::kStrided;
}

// The tensor, contiguous, if it has this shape.
inline at::Tensor check_shape(const char* name, const at::Tensor& tensor, at::IntArrayRef shape) {
  TORCH_CHECK(is_float32_on_cpu(tensor) && tensor.sizes() == shape, "expected `", name, "` to be a float32 tensor ",
              shape, " on the CPU, got ", tensor.toString(), " ", tensor.sizes());
  return tensor.contiguous();
}

// The tensor, contiguous, if it has one dimension and at least one value.
inline at::Tensor check_vector(const char* name, const at::Tensor& tensor) {
  TORCH_CHECK(is_float32_on_cpu(tensor) && tensor.dim() == 1 && tensor.size(0) > 0, "expected `", name,
              "` to be a float32 vector of at least one value on the CPU, got ", tensor.toString(), " ",
              tensor.sizes());
  return tensor.contiguous();
}

// The weights of a 1x1 convolution, contiguous: (panels of O, I, PANEL).
inline at::Tensor check_packed(const char* name, const at::Tensor& packed, int64_t outputs, int64_t inputs) {
  return check_shape(name, packed, {panel_count(outputs), inputs, PANEL});
}

// The weights of a 3x3 convolution, contiguous: (panels of O, I, 9, PANEL).
inline at::Tensor check_taps(const at::Tensor& taps, int64_t outputs, int64_t inputs) {
  return check_shape("taps", taps, {panel_count(outputs), inputs, 9, PANEL});
}

inline void check_setting(const char* name, int64_t value, int64_t max = MAX_SETTING) {
  TORCH_CHECK(value >= 1 && value <= max, "expected `", name, "` from 1 to ", max, ", got ", value);
}

// The upper limit of an activation: above 0, or infinite.
inline float check_limit(double limit) {
  TORCH_CHECK(limit > 0, "expected `limit` above 0, got ", limit);
  return static_cast<float>(limit);
}

inline void check_lanes(int64_t channels) {
  TORCH_CHECK(channels > 0 && channels % LANES == 0, "channels must be multiples of ", LANES, ", got ", channels);
}

// Raises if an operator would overwrite values that it still reads.
inline void check_no_overlap(const at::Tensor& written, const at::Tensor& read) {
  if (written.numel() > 0 && read.numel() > 0) at::assert_no_overlap(written, read);
}

}  // namespace fastfcn
