// What the integer kernels share: an instruction set's sums of products, panels of weights, quantized activations.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "instructions.h"
#include "pool.h"

// The matrix of a layer: weight = scale * q, or for int4, two in a byte, scale * multiplier * (q - zero).
struct EdgeWeights {
  const int8_t* q;           // (rows, columns), int4: (rows, columns / 2), even columns in the low nibbles
  const int8_t* zero;        // int4: (rows, groups), else null
  const int8_t* multiplier;  // int4: (rows, groups)
  const float* scale;        // (rows)
  const float* bias;         // (rows) or null; with a period (period, rows), and output m takes row m % period
  int64_t rows, columns, groups, period;
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

// The same of four rows, taken as 4 x 4 fours.
inline void transpose_fours(const int8_t* const* rows, int64_t k, int8_t* out) {
  __m128i a[4], b[4];
  for (int i = 0; i < 4; ++i) a[i] = _mm_loadu_si128((const __m128i*)(rows[i] + k));
  for (int i = 0; i < 2; ++i) {
    b[2 * i] = _mm_unpacklo_epi32(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm_unpackhi_epi32(a[2 * i], a[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    _mm_storeu_si128((__m128i*)(out + (2 * i) * NR * 4), _mm_unpacklo_epi64(b[i], b[2 + i]));
    _mm_storeu_si128((__m128i*)(out + (2 * i + 1) * NR * 4), _mm_unpackhi_epi64(b[i], b[2 + i]));
  }
}
#endif

constexpr int64_t GROUP = 256;  // columns that `pack` arranges together
constexpr int64_t LINE = 64;    // bytes of a cache line

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Pieces of `steps` steps, `stride` apart in ROWS rows, times a panel (pieces, steps, NR, STEP); finish(i, j, sums) takes
// row i, vector j. A function of its own: only then does the compiler keep every sum in a register.
template <int ROWS, typename A, typename W, typename Finish>
__attribute__((noinline)) void accumulate(const A* const* a, const W* w, int64_t steps, const Finish& finish,
                                          int64_t pieces = 1, int64_t stride = 0) {
  using P = Products<A>;
  Sums s[ROWS][NV];
  const A* rows[ROWS];
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; ++i) rows[i] = a[i];
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 8
    for (int j = 0; j < NV; ++j) s[i][j] = zero();
  for (; pieces > 0; --pieces) {
    for (int64_t k = 0; k < steps * P::STEP; k += P::STEP, w += NR * P::STEP) {
      decltype(P::load_weights(w)) weights[NV];
#pragma GCC unroll 8
      for (int j = 0; j < NV; ++j) weights[j] = P::load_weights(w + j * WIDTH * P::STEP);
#pragma GCC unroll 8
      for (int i = 0; i < ROWS; ++i) {
        auto row = P::spread_row(rows[i] + k);
        settle(row);
#pragma GCC unroll 8
        for (int j = 0; j < NV; ++j) settle(s[i][j] = P::add_products(s[i][j], row, weights[j]));
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i) rows[i] += stride;
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

// Asks for the columns of a row that are read next, from `first` on.
inline void expect(const EdgeWeights& w, int64_t row, int64_t first) {
  const int64_t count = std::min(GROUP, w.columns - first), each = w.zero ? 2 : 1;
  const int8_t* const from = w.q + (row * w.columns + first) / each;
  for (int64_t k = 0; k < count / each; k += LINE) __builtin_prefetch(from + k, 0, 2);
}

// Rows n, n + 1, ... as a panel: (segments, steps, NR, STEP), zeros past the last row and past a segment's end.
template <int STEP>
void pack(const EdgeWeights& w, int64_t n, int64_t segments, int8_t* panel) {
  const int64_t length = w.columns / segments;
  int8_t room[NR][GROUP] = {};
  const int8_t* rows[NR];
  for (int64_t segment = 0; segment < segments; ++segment)
    for (int64_t from = 0; from < length; from += GROUP) {
      const int64_t count = std::min(GROUP, length - from), first = segment * length + from;
      for (int64_t j = 0; j < NR; ++j)
        rows[j] = n + j < w.rows ? columns_of(w, n + j, first, count, room[j]) : room[j];
      for (int64_t j = 0; j < NR && n + j < w.rows; ++j) expect(w, n + j, first + count);
      int64_t k = 0;
#ifdef __AVX2__
      for (; k + 16 <= count; k += 16, panel += 16 * NR)
        if constexpr (STEP == 4)
          for (int j = 0; j < NR; j += 4) transpose_fours(rows + j, k, panel + 4 * j);
        else
          for (int j = 0; j < NR; j += 8) transpose(rows + j, k, panel + 2 * j);
#endif
      for (; k < count; k += STEP)
        for (int64_t j = 0; j < NR; ++j)
          for (int64_t p = 0; p < STEP; ++p) *panel++ = k + p < count ? rows[j][k + p] : 0;
    }
}

// The largest magnitude, or NaN if a number is not finite: then all that is computed from it is NaN.
float largest(const float* x, int64_t count) {
  float most = 1e-12f, finite = 0;
#pragma omp simd reduction(max : most) reduction(+ : finite)
  for (int64_t k = 0; k < count; ++k) most = std::max(most, std::fabs(x[k])), finite += x[k] * 0;
  return most + finite;
}

constexpr float BYTE_LEVELS = 127;  // the most that a byte holds on both sides of zero
constexpr int64_t PIECE = 1 << 15;  // numbers that one thread quantizes sooner than two

// How many lines a thread quantizes together at least.
int64_t lines_of(int64_t line) { return ceil_div(PIECE, line); }

template <typename A>
void quantize(const float* x, int64_t count, float scale, A* out) {
  const float inverse = 1 / scale;
#pragma omp simd
  for (int64_t k = 0; k < count; ++k) out[k] = A(int32_t(std::nearbyint(x[k] * inverse)) + Products<A>::SHIFT);
}

// Whether sums of so many products of activations of so many levels are whole numbers of 32 bits throughout. These are
// scaled in float32, others in double; a rule of the layer, so that all ways and all processors give the same bits.
bool is_short(int64_t columns, float levels) { return columns <= (levels > BYTE_LEVELS ? 512 : 65'536); }

// How many tasks keep all threads busy to the end.
int64_t wanted_tasks() { return thread_count > 1 ? 4 * thread_count : 1; }

}  // namespace
