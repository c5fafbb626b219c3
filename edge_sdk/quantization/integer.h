// What the integer kernels share: an instruction set's sums of products, panels of weights, quantized activations.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// The matrix of a layer: weight = scale * q, or for int4, two in a byte, scale * multiplier * (q - zero).
struct EdgeWeights {
  const int8_t* q;           // (rows, columns), int4: (rows, columns / 2), even columns in the low nibbles
  const int8_t* zero;        // int4: (rows, groups), else null
  const int8_t* multiplier;  // int4: (rows, groups)
  const float* scale;        // (rows)
  const float* bias;         // (rows) or null
  int64_t rows, columns, groups;
};

// Room that a thread keeps from call to call, one an element type for all products together.
template <typename T>
T* room_for(int64_t count) {
  thread_local std::vector<T> room;
  if (int64_t(room.size()) < count) {
    std::vector<T>().swap(room);  // the old room goes first
    room.resize(count);
  }
  return room.data();
}

namespace {

// Two activations as the bits of one number.
inline int32_t both(const int16_t* a) {
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
inline Row spread(const int16_t* a) { return _mm512_set1_epi32(both(a)); }
#if defined(__AVX512VNNI__)
inline Sums add(Sums s, Row a, Row w) { return _mm512_dpwssd_epi32(s, a, w); }
#else
inline Sums add(Sums s, Row a, Row w) { return _mm512_add_epi32(s, _mm512_madd_epi16(a, w)); }
#endif
inline void empty(Sums s, double* out) {
  const __m512d low = _mm512_cvtepi32_pd(_mm512_castsi512_si256(s));
  const __m512d high = _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(s, 1));
  _mm512_storeu_pd(out, _mm512_add_pd(_mm512_loadu_pd(out), low));
  _mm512_storeu_pd(out + 8, _mm512_add_pd(_mm512_loadu_pd(out + 8), high));
}
inline void store(Sums s, float scale, float* out) {
  _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_cvtepi32_ps(s), _mm512_set1_ps(scale)));
}
#elif defined(__AVX2__)
constexpr int WIDTH = 8, PAIR = 2, MR = 6, NV = 2;
using Row = __m256i;
using Sums = __m256i;
inline Sums zero() { return _mm256_setzero_si256(); }
inline Row load(const int16_t* w) { return _mm256_loadu_si256((const __m256i*)w); }
inline Row load(const int8_t* w) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)w)); }
inline Row spread(const int16_t* a) { return _mm256_set1_epi32(both(a)); }
inline Sums add(Sums s, Row a, Row w) { return _mm256_add_epi32(s, _mm256_madd_epi16(a, w)); }
inline void empty(Sums s, double* out) {
  const __m256d low = _mm256_cvtepi32_pd(_mm256_castsi256_si128(s));
  const __m256d high = _mm256_cvtepi32_pd(_mm256_extracti128_si256(s, 1));
  _mm256_storeu_pd(out, _mm256_add_pd(_mm256_loadu_pd(out), low));
  _mm256_storeu_pd(out + 4, _mm256_add_pd(_mm256_loadu_pd(out + 4), high));
}
inline void store(Sums s, float scale, float* out) {
  _mm256_storeu_ps(out, _mm256_mul_ps(_mm256_cvtepi32_ps(s), _mm256_set1_ps(scale)));
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
#else
constexpr int WIDTH = 1, PAIR = 1, MR = 4, NV = 4;
using Row = int32_t;
using Sums = int32_t;
inline Sums zero() { return 0; }
inline Row load(const int16_t* w) { return *w; }
inline Row load(const int8_t* w) { return *w; }
inline Row spread(const int16_t* a) { return *a; }
inline Sums add(Sums s, Row a, Row w) { return s + a * w; }
inline void empty(Sums s, double* out) { *out += s; }
inline void store(Sums s, float scale, float* out) { *out = float(s) * scale; }
#endif
constexpr int NR = NV * WIDTH;  // outputs of a panel
#ifdef __AVX2__
// Columns k..k + 16 of eight rows, taken as 8 x 8 pairs and transposed: pair i of row j to out[i * NR * 2 + j * 2].
inline void transpose(const int8_t* const* rows, int64_t k, int8_t* out) {
  __m128i a[8], b[8];
  for (int i = 0; i < 8; ++i) a[i] = _mm_loadu_si128((const __m128i*)(rows[i] + k));
  for (int i = 0; i < 4; ++i) {
    b[2 * i] = _mm_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i)
    for (int h = 0; h < 2; ++h) {
      a[4 * i + 2 * h] = _mm_unpacklo_epi32(b[4 * i + h], b[4 * i + 2 + h]);
      a[4 * i + 2 * h + 1] = _mm_unpackhi_epi32(b[4 * i + h], b[4 * i + 2 + h]);
    }
  for (int i = 0; i < 4; ++i) {
    _mm_storeu_si128((__m128i*)(out + (2 * i) * NR * 2), _mm_unpacklo_epi64(a[i], a[4 + i]));
    _mm_storeu_si128((__m128i*)(out + (2 * i + 1) * NR * 2), _mm_unpackhi_epi64(a[i], a[4 + i]));
  }
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

constexpr int64_t GROUP = 512;           // columns that `pack` arranges together

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// `steps` steps of ROWS rows times a panel (steps, NR, PAIR) of 8 or 16 bits; finish(i, j, sums) takes row i, vector j.
// A function of its own: only then does the compiler keep every sum in a register.
template <int ROWS, typename W, typename Finish>
__attribute__((noinline)) void accumulate(const int16_t* const* a, const W* w, int64_t steps, const Finish& finish) {
  Sums s[ROWS][NV];
  const int16_t* rows[ROWS];
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; ++i) rows[i] = a[i];
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) s[i][j] = zero();
  for (int64_t k = 0; k < steps * PAIR; k += PAIR, w += NR * PAIR) {
    Row weights[NV];
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) weights[j] = load(w + j * WIDTH * PAIR);
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i) {
      Row row = spread(rows[i] + k);
      settle(row);
#pragma GCC unroll 8
      for (int j = 0; j < NV; ++j) settle(s[i][j] = add(s[i][j], row, weights[j]));
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) finish(i, j, s[i][j]);
}

// `count` columns of a row from `first` on, as int8: where they are, or for int4 unpacked into `room`.
const int8_t* columns_of(const EdgeWeights& w, int64_t row, int64_t first, int64_t count, int8_t* __restrict room) {
  if (!w.zero) return w.q + row * w.columns + first;
  const uint8_t* __restrict bytes = reinterpret_cast<const uint8_t*>(w.q) + row * (w.columns / 2);
  const int64_t size = w.columns / w.groups;
  for (int64_t k = first; k < first + count;) {
    const int64_t group = k / size, end = std::min(first + count, (group + 1) * size), pairs = (end - k) / 2;
    const int8_t zero = w.zero[row * w.groups + group], times = w.multiplier[row * w.groups + group];
    const auto value = [&](int q) { return int8_t((q - zero) * times); };
    const int64_t odd = k % 2;
    if (odd) room[k - first] = value(bytes[k / 2] >> 4);
    const uint8_t* __restrict from = bytes + (k + odd) / 2;
    int8_t* __restrict to = room + k + odd - first;
#pragma omp simd
    for (int64_t i = 0; i < pairs; ++i) {
      to[2 * i] = value(from[i] & 15);
      to[2 * i + 1] = value(from[i] >> 4);
    }
    k += odd + 2 * pairs;
    if (k < end) room[k - first] = value(bytes[k / 2] & 15), ++k;
  }
  return room;
}

// Rows n, n + 1, ... as a panel: (segments, steps, NR, PAIR), zeros past the last row and past a segment's end.
void pack(const EdgeWeights& w, int64_t n, int64_t segments, int8_t* panel) {
  const int64_t length = w.columns / segments;
  int8_t room[NR][GROUP] = {};
  const int8_t* rows[NR];
  for (int64_t segment = 0; segment < segments; ++segment)
    for (int64_t from = 0; from < length; from += GROUP) {
      const int64_t count = std::min(GROUP, length - from), first = segment * length + from;
      for (int64_t j = 0; j < NR; ++j)
        rows[j] = n + j < w.rows ? columns_of(w, n + j, first, count, room[j]) : room[j];
      int64_t k = 0;
#ifdef __AVX2__
      for (; k + 16 <= count; k += 16, panel += 16 * NR)
        for (int j = 0; j < NR; j += 8) transpose(rows + j, k, panel + 2 * j);
#endif
      for (; k < count; k += PAIR)
        for (int64_t j = 0; j < NR; ++j)
          for (int64_t p = 0; p < PAIR; ++p) *panel++ = k + p < count ? rows[j][k + p] : 0;
    }
}

// The largest magnitude, or NaN if a number is not finite: then all that is computed from it is NaN.
float largest(const float* x, int64_t count) {
  float most = 1e-12f, finite = 0;
#pragma omp simd reduction(max : most) reduction(+ : finite)
  for (int64_t k = 0; k < count; ++k) most = std::max(most, std::fabs(x[k])), finite += x[k] * 0;
  return most + finite;
}

void quantize(const float* x, int64_t count, float scale, int16_t* out) {
#pragma omp simd
  for (int64_t k = 0; k < count; ++k) out[k] = int16_t(std::nearbyint(x[k] / scale));
}

// The step between two levels of an image of h lines.
float step_of(const float* image, int64_t h, int64_t line, float levels) {
  std::vector<float> peaks(h);
#pragma omp parallel for
  for (int64_t i = 0; i < h; ++i) peaks[i] = largest(image + i * line, line);
  return largest(peaks.data(), h) / levels;
}

// Quantizes `lines` lines of an image (h, width, c) from line `first` on, which may be outside, into (lines, wide, c)
// with zeros around: `side` pixels on the left, the rest on the right.
void quantize_lines(const float* image, int64_t h, int64_t width, int64_t c, int64_t first, int64_t lines, int64_t side,
                    int64_t wide, float step, int16_t* out) {
#pragma omp parallel for
  for (int64_t i = 0; i < lines; ++i) {
    int16_t *line = out + i * wide * c, *inner = line + side * c, *end = inner + width * c;
    if (first + i < 0 || first + i >= h) {
      std::fill_n(line, wide * c, int16_t(0));
    } else {
      std::fill(line, inner, int16_t(0));
      quantize(image + (first + i) * width * c, width * c, step, inner);
      std::fill(end, line + wide * c, int16_t(0));
    }
  }
}

// How many tasks keep all threads busy to the end.
int64_t wanted_tasks() {
#ifdef _OPENMP
  return 4 * omp_get_max_threads();
#else
  return 1;
#endif
}

}  // namespace
