// Vectors of float32 on every processor, and functions of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "instructions.h"

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Bits __attribute__((vector_size(4 * LANES)));

inline Floats all(float x) { return x - Floats{}; }

inline Floats fma(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__) && defined(__FMA__)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

// The larger one, b where one of them is not a number.
inline Floats larger(Floats a, Floats b) {
#if defined(__AVX512F__)
  return (Floats)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (Floats)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}

// 2^t for t <= 0 with a relative error of 3e-6, and 2^-100 below -100, where smaller ones would be slow. NaN stays NaN.
// A vector at a time each step, so that their chains of additions and multiplications run beside each other.
template <int N>
inline void power_of_two(Floats* t) {
  constexpr float ROUND = 0x1.8p23f + 127;  // adding it leaves a whole number, biased as an exponent, in the low bits
  constexpr float TERMS[] = {5.5917838e-2f, 2.4024745e-1f, 6.9312182e-1f, 1};
  Floats y[N], rounded[N];
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) {
    t[i] = larger(all(-100), t[i]);
    rounded[i] = t[i] + ROUND;
  }
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) t[i] -= rounded[i] - ROUND, y[i] = all(9.5700802e-3f);
#pragma GCC unroll 8
  for (const float term : TERMS)
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) y[i] = fma(y[i], t[i], all(term));
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) t[i] = y[i] * (Floats)((Bits)rounded[i] << 23);
}

// As many lanes as there are, the others zero.
inline Floats load_some(const float* x, int64_t count) {
  Floats value = {};
  if (count >= LANES)
    std::memcpy(&value, x, sizeof(value));  // of a size that the compiler knows
  else
    std::memcpy(&value, x, sizeof(float) * count);
  return value;
}

inline void store_some(float* to, Floats value, int64_t count) {
  if (count >= LANES)
    std::memcpy(to, &value, sizeof(value));
  else
    std::memcpy(to, &value, sizeof(float) * count);
}

// x gelu(gate) / gate = x / 2 (1 + erf(gate / sqrt 2)) times the gate; erf by Abramowitz and Stegun 7.1.26, within 3e-6.
inline Floats gated(Floats x, Floats gate) {
  constexpr float TERMS[] = {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f};
  const Floats z = gate * 0.70710678f, size = larger(z, -z), t = 1 / (1 + 0.3275911f * size);
  Floats power[1] = {-1.44269504f * z * z}, y = all(1.061405429f);
  power_of_two<1>(power);
  for (const float term : TERMS) y = fma(y, t, all(term));
  const Floats erf = 1 - y * t * power[0];
  return 0.5f * x * gate * (1 + (z < 0 ? -erf : erf));
}

}  // namespace
