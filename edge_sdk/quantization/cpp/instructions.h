// What a processor offers the integer kernels: sums of products of activations and weights, a vector at a time.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

// Activations as the bits of one number.
template <typename A>
int32_t bits_of(const A* a) {
  int32_t bits;
  std::memcpy(&bits, a, 4);
  return bits;
}

// What one processor offers. Sums are WIDTH outputs, and a step adds PAIR products to each: `spread` gives the same
// PAIR activations to every output, `load` PAIR weights of each output. MR x NV sums fill the registers.
#if defined(__AVX512BW__)
constexpr int WIDTH = 16, PAIR = 2, MR = 8, NV = 2;
using Row = __m512i;
using Sums = __m512i;
inline Sums zero() { return _mm512_setzero_si512(); }
inline Row load(const int16_t* w) { return _mm512_loadu_si512(w); }
inline Row load(const int8_t* w) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)w)); }
inline Row spread(const int16_t* a) { return _mm512_set1_epi32(bits_of(a)); }
#if defined(__AVX512VNNI__)
inline Sums add(Sums s, Row a, Row w) { return _mm512_dpwssd_epi32(s, a, w); }
#else
inline Sums add(Sums s, Row a, Row w) { return _mm512_add_epi32(s, _mm512_madd_epi16(a, w)); }
#endif
inline void widen(Sums s, double* out) {
  _mm512_storeu_pd(out, _mm512_cvtepi32_pd(_mm512_castsi512_si256(s)));
  _mm512_storeu_pd(out + 8, _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(s, 1)));
}
inline void empty(Sums s, double* out) {
  const __m512d low = _mm512_cvtepi32_pd(_mm512_castsi512_si256(s));
  const __m512d high = _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(s, 1));
  _mm512_storeu_pd(out, _mm512_add_pd(_mm512_loadu_pd(out), low));
  _mm512_storeu_pd(out + 8, _mm512_add_pd(_mm512_loadu_pd(out + 8), high));
}
inline void store(Sums s, float scale, float* out) {
  _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_cvtepi32_ps(s), _mm512_set1_ps(scale)));
}
inline Sums subtract(Sums s, const int32_t* by) { return _mm512_sub_epi32(s, _mm512_loadu_si512(by)); }
// out = s * (scale * scales) + biases, each step rounded.
inline void finish_row(Sums s, float scale, const float* scales, const float* biases, float* out) {
  const __m512 factor = _mm512_mul_ps(_mm512_set1_ps(scale), _mm512_loadu_ps(scales));
  _mm512_storeu_ps(out, _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(s), factor), _mm512_loadu_ps(biases)));
}
inline void add_share(Sums s, const float* before, const float* now, float* out) {
  const __m512 old = _mm512_mul_ps(_mm512_loadu_ps(out), _mm512_loadu_ps(before));
  _mm512_storeu_ps(out, _mm512_add_ps(old, _mm512_mul_ps(_mm512_cvtepi32_ps(s), _mm512_loadu_ps(now))));
}
#elif defined(__AVX2__)
constexpr int WIDTH = 8, PAIR = 2, MR = 6, NV = 2;
using Row = __m256i;
using Sums = __m256i;
inline Sums zero() { return _mm256_setzero_si256(); }
inline Row load(const int16_t* w) { return _mm256_loadu_si256((const __m256i*)w); }
inline Row load(const int8_t* w) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)w)); }
inline Row spread(const int16_t* a) { return _mm256_set1_epi32(bits_of(a)); }
inline Sums add(Sums s, Row a, Row w) { return _mm256_add_epi32(s, _mm256_madd_epi16(a, w)); }
inline void widen(Sums s, double* out) {
  _mm256_storeu_pd(out, _mm256_cvtepi32_pd(_mm256_castsi256_si128(s)));
  _mm256_storeu_pd(out + 4, _mm256_cvtepi32_pd(_mm256_extracti128_si256(s, 1)));
}
inline void empty(Sums s, double* out) {
  const __m256d low = _mm256_cvtepi32_pd(_mm256_castsi256_si128(s));
  const __m256d high = _mm256_cvtepi32_pd(_mm256_extracti128_si256(s, 1));
  _mm256_storeu_pd(out, _mm256_add_pd(_mm256_loadu_pd(out), low));
  _mm256_storeu_pd(out + 4, _mm256_add_pd(_mm256_loadu_pd(out + 4), high));
}
inline void store(Sums s, float scale, float* out) {
  _mm256_storeu_ps(out, _mm256_mul_ps(_mm256_cvtepi32_ps(s), _mm256_set1_ps(scale)));
}
inline Sums subtract(Sums s, const int32_t* by) {
  return _mm256_sub_epi32(s, _mm256_loadu_si256((const __m256i*)by));
}
inline void finish_row(Sums s, float scale, const float* scales, const float* biases, float* out) {
  const __m256 factor = _mm256_mul_ps(_mm256_set1_ps(scale), _mm256_loadu_ps(scales));
  _mm256_storeu_ps(out, _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(s), factor), _mm256_loadu_ps(biases)));
}
inline void add_share(Sums s, const float* before, const float* now, float* out) {
  const __m256 old = _mm256_mul_ps(_mm256_loadu_ps(out), _mm256_loadu_ps(before));
  _mm256_storeu_ps(out, _mm256_add_ps(old, _mm256_mul_ps(_mm256_cvtepi32_ps(s), _mm256_loadu_ps(now))));
}
#elif defined(__aarch64__)
constexpr int WIDTH = 8, PAIR = 1, MR = 6, NV = 2;
using Row = int16x8_t;
using Sums = int32x4x2_t;
inline Sums zero() { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
inline Row load(const int16_t* w) { return vld1q_s16(w); }
inline Row load(const int8_t* w) { return vmovl_s8(vld1_s8(w)); }
inline Row spread(const int16_t* a) { return vld1q_dup_s16(a); }
inline Sums add(Sums s, Row a, Row w) {
  return {vmlal_s16(s.val[0], vget_low_s16(a), vget_low_s16(w)), vmlal_high_s16(s.val[1], a, w)};
}
inline void widen(Sums s, double* out) {
  for (int half = 0; half < 2; ++half, out += 4) {
    vst1q_f64(out, vcvtq_f64_s64(vmovl_s32(vget_low_s32(s.val[half]))));
    vst1q_f64(out + 2, vcvtq_f64_s64(vmovl_high_s32(s.val[half])));
  }
}
inline void empty(Sums s, double* out) {
  for (int half = 0; half < 2; ++half, out += 4) {
    const float64x2_t low = vcvtq_f64_s64(vmovl_s32(vget_low_s32(s.val[half])));
    const float64x2_t high = vcvtq_f64_s64(vmovl_high_s32(s.val[half]));
    vst1q_f64(out, vaddq_f64(vld1q_f64(out), low));
    vst1q_f64(out + 2, vaddq_f64(vld1q_f64(out + 2), high));
  }
}
inline void store(Sums s, float scale, float* out) {
  for (int half = 0; half < 2; ++half) vst1q_f32(out + 4 * half, vmulq_n_f32(vcvtq_f32_s32(s.val[half]), scale));
}
inline Sums subtract(Sums s, const int32_t* by) {
  return {vsubq_s32(s.val[0], vld1q_s32(by)), vsubq_s32(s.val[1], vld1q_s32(by + 4))};
}
inline void finish_row(Sums s, float scale, const float* scales, const float* biases, float* out) {
  for (int at = 0; at < 8; at += 4) {
    const float32x4_t factor = vmulq_n_f32(vld1q_f32(scales + at), scale);
    vst1q_f32(out + at, vaddq_f32(vmulq_f32(vcvtq_f32_s32(s.val[at / 4]), factor), vld1q_f32(biases + at)));
  }
}
inline void add_share(Sums s, const float* before, const float* now, float* out) {
  for (int at = 0; at < 8; at += 4) {
    const float32x4_t old = vmulq_f32(vld1q_f32(out + at), vld1q_f32(before + at));
    vst1q_f32(out + at, vaddq_f32(old, vmulq_f32(vcvtq_f32_s32(s.val[at / 4]), vld1q_f32(now + at))));
  }
}
#else
constexpr int WIDTH = 1, PAIR = 1, MR = 4, NV = 4;
using Row = int32_t;
using Sums = int32_t;
inline Sums zero() { return 0; }
inline Row load(const int16_t* w) { return *w; }
inline Row load(const int8_t* w) { return *w; }
inline Row spread(const int16_t* a) { return *a; }
inline Sums add(Sums s, Row a, Row w) { return s + a * w; }
inline void widen(Sums s, double* out) { *out = s; }
inline void empty(Sums s, double* out) { *out += s; }
inline void store(Sums s, float scale, float* out) { *out = float(s) * scale; }
inline Sums subtract(Sums s, const int32_t* by) { return s - *by; }
inline void finish_row(Sums s, float scale, const float* scales, const float* biases, float* out) {
  *out = float(s) * (scale * *scales) + *biases;
}
inline void add_share(Sums s, const float* before, const float* now, float* out) {
  *out = *out * *before + float(s) * *now;
}
#endif

// Computes a value here, not when the compiler likes. Only 16 registers need that: twelve sums, two weights, a row and a
// product are all of them.
#if defined(__AVX2__) && !defined(__AVX512BW__)
inline void settle(Row& value) { asm volatile("" : "+x"(value)); }
#else
template <typename T>
inline void settle(const T&) {}
#endif

// How activations of type A are multiplied: STEP of them at once, each with SHIFT added.
template <typename A>
struct Products {
  static constexpr int STEP = PAIR, SHIFT = 0;
  static constexpr int64_t MOST = 256;  // steps whose sums, up to 256 * 2 * 32,500 * 128, stay below 2^31
  template <typename W>
  static Row load_weights(const W* w) { return load(w); }
  static Row spread_row(const A* a) { return spread(a); }
  static Sums add_products(Sums s, Row a, Row w) { return add(s, a, w); }
};

// Of up to 127 levels: bytes, where the processor multiplies four at once, else as any others.
#if defined(__AVX512VNNI__)
using Byte = uint8_t;
template <>
struct Products<Byte> {
  static constexpr int STEP = 4, SHIFT = 128;  // the instruction takes activations without a sign
  static constexpr int64_t MOST = 16'384;      // 16,384 * 4 * 255 * 128 is below 2^31
  static Row load_weights(const int8_t* w) { return _mm512_loadu_si512(w); }
  static Row spread_row(const Byte* a) { return _mm512_set1_epi32(bits_of(a)); }
  static Sums add_products(Sums s, Row a, Row w) { return _mm512_dpbusd_epi32(s, a, w); }
};
#elif defined(__ARM_FEATURE_DOTPROD)
using Byte = uint8_t;  // the bits of a number with a sign
template <>
struct Products<Byte> {
  static constexpr int STEP = 4, SHIFT = 0;
  static constexpr int64_t MOST = 16'384;
  static int8x16x2_t load_weights(const int8_t* w) { return {vld1q_s8(w), vld1q_s8(w + 16)}; }
  static int8x16_t spread_row(const Byte* a) { return vreinterpretq_s8_s32(vdupq_n_s32(bits_of(a))); }
  static Sums add_products(Sums s, int8x16_t a, int8x16x2_t w) {
    return {vdotq_s32(s.val[0], w.val[0], a), vdotq_s32(s.val[1], w.val[1], a)};
  }
};
#else
using Byte = int16_t;
#endif

}  // namespace
