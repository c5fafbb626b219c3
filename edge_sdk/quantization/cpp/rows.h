// What is done to the rows of a linear layer's input before they are quantized.
#pragma once

#include "floats.h"
#include "integer.h"

// Nothing, a layer normalization, or values times the GELU of gates that follow them in the row; then `base`
// (period, columns) is subtracted if it is not null, row i % period from row i.
struct EdgeRows {
  const float *weight, *bias;  // of a normalization, else null
  float epsilon;
  int64_t is_gated;
  const float* base;
  int64_t period;
};

namespace {

inline float sum_of(Floats value) {
  float sum = 0;
  for (int i = 0; i < LANES; ++i) sum += value[i];
  return sum;
}

// (x - mean) / sqrt(variance + epsilon) * weight + bias.
void normalize(const float* x, int64_t columns, const EdgeRows& how, float* out) {
  Floats sum = {}, squares = {};
  for (int64_t k = 0; k < columns; k += LANES) sum += load_some(x + k, columns - k);
  const float mean = sum_of(sum) / float(columns);
  for (int64_t k = 0; k < columns; k += LANES) {
    Floats value = load_some(x + k, columns - k) - mean;
    if (columns - k < LANES)
      for (int64_t lane = columns - k; lane < LANES; ++lane) value[lane] = 0;
    squares += value * value;
  }
  const float scale = 1 / std::sqrt(sum_of(squares) / float(columns) + how.epsilon);
  for (int64_t k = 0; k < columns; ++k) out[k] = (x[k] - mean) * scale * how.weight[k] + how.bias[k];
}

// to = from - base; `from` may be `to`.
inline void subtract(const float* from, const float* base, int64_t count, float* to) {
#pragma omp simd
  for (int64_t k = 0; k < count; ++k) to[k] = from[k] - base[k];
}

// Row i of x before a base is subtracted: where it is, or in `room`.
const float* function_of(const float* x, int64_t i, int64_t columns, const EdgeRows& how, float* room) {
  const float* row = x + i * columns * (how.is_gated ? 2 : 1);
  if (how.weight) {
    normalize(row, columns, how, room);
  } else if (how.is_gated) {
    for (int64_t k = 0; k < columns; k += LANES) {
      const Floats value = load_some(row + k, columns - k), gate = load_some(row + columns + k, columns - k);
      store_some(room + k, gated(value, gate), columns - k);
    }
  } else {
    return row;
  }
  return room;
}

// Row i of x as it is quantized: where it is, or in `room`.
const float* row_of(const float* x, int64_t i, int64_t columns, const EdgeRows& how, float* room) {
  const float* row = function_of(x, i, columns, how, room);
  if (!how.base) return row;
  subtract(row, how.base + i % how.period * columns, columns, room);
  return room;
}

}  // namespace
