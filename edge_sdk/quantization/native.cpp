// Products of 16-bit activations and int8 weights, summed in integers. Weights are widened in registers only.
//
// Activations are quantized a band at a time, one scale per row (linear) or per sample (convolution), into a buffer
// that stays in the cache. Sums of two products are int32 lanes, emptied into int64 before they could overflow, so
// every sum is exact; it is multiplied by the scales once, in double. A convolution reads its windows where they lie
// in the padded NHWC band: there is no im2col.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__AVX512BW__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

namespace {

// What one processor offers: LANES products a step into the int32 lanes of Sums; MR x NR sums fill its registers.
#if defined(__AVX512BW__)
constexpr int LANES = 32, MR = 6, NR = 4;
using Row = __m512i;
using Sums = __m512i;
inline Sums zero() { return _mm512_setzero_si512(); }
inline Row load(const int16_t* a) { return _mm512_loadu_si512(a); }
inline Row widen(const int8_t* w) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)w)); }
#if defined(__AVX512VNNI__)
inline Sums add(Sums s, Row a, Row w) { return _mm512_dpwssd_epi32(s, a, w); }
#else
inline Sums add(Sums s, Row a, Row w) { return _mm512_add_epi32(s, _mm512_madd_epi16(a, w)); }
#endif
inline int64_t total(Sums s) {
  const __m512i low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(s));
  return _mm512_reduce_add_epi64(_mm512_add_epi64(low, _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(s, 1))));
}
#elif defined(__AVX2__)
constexpr int LANES = 16, MR = 5, NR = 2;
using Row = __m256i;
using Sums = __m256i;
inline Sums zero() { return _mm256_setzero_si256(); }
inline Row load(const int16_t* a) { return _mm256_loadu_si256((const __m256i*)a); }
inline Row widen(const int8_t* w) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)w)); }
inline Sums add(Sums s, Row a, Row w) { return _mm256_add_epi32(s, _mm256_madd_epi16(a, w)); }
inline int64_t total(Sums s) {
  const __m256i low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(s));
  const __m256i both = _mm256_add_epi64(low, _mm256_cvtepi32_epi64(_mm256_extracti128_si256(s, 1)));
  const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
  return _mm_extract_epi64(half, 0) + _mm_extract_epi64(half, 1);
}
#elif defined(__ARM_NEON)
constexpr int LANES = 8, MR = 6, NR = 4;
using Row = int16x8_t;
using Sums = int32x4_t;
inline Sums zero() { return vdupq_n_s32(0); }
inline Row load(const int16_t* a) { return vld1q_s16(a); }
inline Row widen(const int8_t* w) { return vmovl_s8(vld1_s8(w)); }
inline Sums add(Sums s, Row a, Row w) {
  return vmlal_high_s16(vmlal_s16(s, vget_low_s16(a), vget_low_s16(w)), a, w);
}
inline int64_t total(Sums s) { return vaddlvq_s32(s); }
#else
constexpr int LANES = 1, MR = 4, NR = 4;
using Row = int32_t;
using Sums = int64_t;
inline Sums zero() { return 0; }
inline Row load(const int16_t* a) { return *a; }
inline Row widen(const int8_t* w) { return *w; }
inline Sums add(Sums s, Row a, Row w) { return s + int64_t(a) * w; }
inline int64_t total(Sums s) { return s; }
#endif
constexpr int64_t STEPS = 256;  // 256 steps of 2 * 32,500 * 128 stay below 2^31
constexpr int64_t BAND_BYTES = 256 << 10, CHUNK_BYTES = 128 << 10;  // of activations, of weights: both in the cache

inline Row widen_some(const int8_t* w, int64_t count) {
  int8_t padded[LANES] = {};
  std::memcpy(padded, w, count);
  return widen(padded);
}

// Adds `steps` steps of MR rows of activations times NR rows of weights. A function of its own: only then does the
// compiler keep every sum in a register.
__attribute__((noinline)) void accumulate(const int16_t* const* a, const int8_t* const* w, int64_t steps,
                                          Sums (*sums)[NR]) {
  Sums s[MR][NR];
  const int16_t* rows[MR];
  const int8_t* columns[NR];
  for (int i = 0; i < MR; ++i) rows[i] = a[i];
  for (int j = 0; j < NR; ++j) columns[j] = w[j];
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NR; ++j) s[i][j] = sums[i][j];
  for (int64_t k = 0; k < steps * LANES; k += LANES) {
    Row weights[NR];
#pragma GCC unroll 8
    for (int j = 0; j < NR; ++j) weights[j] = widen(columns[j] + k);
#pragma GCC unroll 8
    for (int i = 0; i < MR; ++i) {
      const Row row = load(rows[i] + k);
#pragma GCC unroll 8
      for (int j = 0; j < NR; ++j) s[i][j] = add(s[i][j], row, weights[j]);
    }
  }
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NR; ++j) sums[i][j] = s[i][j];
}

// MR rows of activations times NR rows of weights. A row is `segments` pieces of `length` numbers: contiguous in the
// weights, `stride` apart in the activations, which may be read past a piece's end: those weights count as zero.
void block(const int16_t* const* a, int64_t segments, int64_t stride, int64_t length, const int8_t* const* w,
           int64_t (*out)[NR]) {
  Sums sums[MR][NR];
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NR; ++j) out[i][j] = 0, sums[i][j] = zero();
  const auto empty = [&] {
    for (int i = 0; i < MR; ++i)
      for (int j = 0; j < NR; ++j) out[i][j] += total(sums[i][j]), sums[i][j] = zero();
  };
  int64_t steps = 0;
  const int64_t whole = length / LANES, rest = length - whole * LANES;
  for (int64_t segment = 0; segment < segments; ++segment) {
    const int16_t* rows[MR];
    const int8_t* columns[NR];
    for (int i = 0; i < MR; ++i) rows[i] = a[i] + segment * stride;
    for (int j = 0; j < NR; ++j) columns[j] = w[j] + segment * length;
    for (int64_t done = 0; done < whole;) {
      const int64_t now = std::min(whole - done, STEPS - steps);
      accumulate(rows, columns, now, sums);
      for (int i = 0; i < MR; ++i) rows[i] += now * LANES;
      for (int j = 0; j < NR; ++j) columns[j] += now * LANES;
      done += now, steps += now;
      if (steps == STEPS) empty(), steps = 0;
    }
    if (rest) {
      for (int j = 0; j < NR; ++j) {
        const Row weights = widen_some(columns[j], rest);
        for (int i = 0; i < MR; ++i) sums[i][j] = add(sums[i][j], load(rows[i]), weights);
      }
      if (++steps == STEPS) empty(), steps = 0;
    }
  }
  empty();
}

struct Weights {
  const int8_t* q;     // (rows, columns)
  const float* scale;  // (rows)
  const float* bias;   // (rows) or null
  int64_t rows, columns;
};

// `count` rows of activations, row m at a + place(m), times the weight rows first..last; y(m, n) at y[m * pitch + n].
template <typename Place, typename Scale>
void multiply(const int16_t* a, int64_t count, Place place, Scale scale, int64_t segments, int64_t stride,
              const Weights& w, int64_t first, int64_t last, float* y, int64_t pitch) {
  const int64_t chunk = std::max<int64_t>(CHUNK_BYTES / w.columns / NR, 1) * NR;
  for (int64_t from = first; from < last; from += chunk)
    for (int64_t m = 0; m < count; m += MR) {
      const int16_t* starts[MR];
      for (int i = 0; i < MR; ++i) starts[i] = a + place(std::min(m + i, count - 1));
      for (int64_t n = from; n < std::min(from + chunk, last); n += NR) {
        const int8_t* rows[NR];
        for (int j = 0; j < NR; ++j) rows[j] = w.q + std::min(n + j, last - 1) * w.columns;
        int64_t out[MR][NR];
        block(starts, segments, stride, w.columns / segments, rows, out);
        for (int i = 0; i < MR && m + i < count; ++i)
          for (int j = 0; j < NR && n + j < last; ++j)
            y[(m + i) * pitch + n + j] =
                float(double(out[i][j]) * scale(m + i) * w.scale[n + j] + (w.bias ? w.bias[n + j] : 0));
      }
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

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Tasks are bands times pieces of so many weight rows: two tasks or more for every thread.
int64_t piece_of(int64_t bands, int64_t rows) {
#ifdef _OPENMP
  const int64_t tasks = 2 * omp_get_max_threads();
#else
  const int64_t tasks = 1;
#endif
  return ceil_div(ceil_div(rows, std::max<int64_t>(1, tasks / bands)), NR) * NR;
}

}  // namespace

extern "C" {

// x (m, columns) float -> y (m, rows) float, row m of y at y + m * pitch.
void edge_linear(const float* x, int64_t m, const int8_t* q, const float* scale, const float* bias, int64_t rows,
                 int64_t columns, float levels, float* y, int64_t pitch) {
  const Weights w{q, scale, bias, rows, columns};
  const int64_t band = std::clamp<int64_t>(BAND_BYTES / (2 * columns) / MR * MR, MR, 32 * MR);
  const int64_t bands = ceil_div(m, band), piece = piece_of(bands, rows), pieces = ceil_div(rows, piece);
#pragma omp parallel for collapse(2) schedule(dynamic)
  for (int64_t b = 0; b < bands; ++b)
    for (int64_t p = 0; p < pieces; ++p) {
      const int64_t top = b * band, count = std::min(band, m - top);
      std::vector<int16_t> a(count * columns + LANES);
      std::vector<float> step(count);
      for (int64_t i = 0; i < count; ++i) {
        const float* row = x + (top + i) * columns;
        quantize(row, columns, step[i] = largest(row, columns) / levels, a.data() + i * columns);
      }
      multiply(a.data(), count, [&](int64_t i) { return i * columns; }, [&](int64_t i) { return step[i]; }, 1, 0, w,
               p * piece, std::min(rows, (p + 1) * piece), y + top * pitch, pitch);
    }
}

// x (batch, h, w, c) float -> y (batch, ho, wo, rows) float, pixel i of y at y + i * pitch; columns are (kh, kw, c).
void edge_conv(const float* x, int64_t batch, int64_t h, int64_t width, int64_t c, const int64_t* kernel,
               const int64_t* stride, const int64_t* padding, const int8_t* q, const float* scale, const float* bias,
               int64_t rows, float levels, float* y, int64_t pitch) {
  const int64_t kh = kernel[0], kw = kernel[1], wp = width + 2 * padding[1];
  const int64_t ho = (h + 2 * padding[0] - kh) / stride[0] + 1, wo = (wp - kw) / stride[1] + 1;
  const Weights weights{q, scale, bias, rows, kh * kw * c};
  const int64_t band = std::clamp<int64_t>((BAND_BYTES / (2 * wp * c) - kh) / stride[0], 1, ho);
  const int64_t bands = ceil_div(ho, band), piece = piece_of(batch * bands, rows), pieces = ceil_div(rows, piece);
  std::vector<float> most(batch * h), step(batch);
#pragma omp parallel for
  for (int64_t line = 0; line < batch * h; ++line) most[line] = largest(x + line * width * c, width * c);
  for (int64_t b = 0; b < batch; ++b) step[b] = largest(most.data() + b * h, h) / levels;
#pragma omp parallel for collapse(3) schedule(dynamic)
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t t = 0; t < bands; ++t)
      for (int64_t p = 0; p < pieces; ++p) {
        const int64_t top = t * band, count = std::min(band, ho - top), lines = (count - 1) * stride[0] + kh;
        std::vector<int16_t> a(lines * wp * c + LANES);
        for (int64_t line = 0; line < lines; ++line) {
          const int64_t from = top * stride[0] + line - padding[0];
          if (from >= 0 && from < h)
            quantize(x + (b * h + from) * width * c, width * c, step[b], a.data() + (line * wp + padding[1]) * c);
        }
        const auto place = [&](int64_t i) { return ((i / wo) * stride[0] * wp + (i % wo) * stride[1]) * c; };
        multiply(a.data(), count * wo, place, [&](int64_t) { return step[b]; }, kh, wp * c, weights, p * piece,
                 std::min(rows, (p + 1) * piece), y + (b * ho + top) * wo * pitch, pitch);
      }
}

}  // extern "C"
