// Products of 16-bit activations and int8 or int4 weights, summed in integers. Weights are widened in registers only.
//
// Activations are quantized a band at a time, one scale per row (linear) or per sample (convolution); a convolution
// reads its windows where they lie in the padded NHWC band: there is no im2col.
// Weights are arranged in panels of a few output channels just before they are used. Every lane sums for one output;
// it is emptied into a double before it could overflow, and a double holds all these sums exactly. They are multiplied
// by the scales once, at the end.
#include "integer.h"

// The matrix of a layer: weight = scale * q, or for int4, two in a byte, scale * multiplier * (q - zero).
struct EdgeWeights {
  const int8_t* q;           // (rows, columns), int4: (rows, columns / 2), even columns in the low nibbles
  const int8_t* zero;        // int4: (rows, groups), else null
  const int8_t* multiplier;  // int4: (rows, groups)
  const float* scale;        // (rows)
  const float* bias;         // (rows) or null
  int64_t rows, columns, groups;
};

namespace {

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

constexpr int64_t STEPS = 256;           // 256 steps of 2 * 32,500 * 128 stay below 2^31
constexpr int64_t BAND_BYTES = 2 << 20;  // of quantized activations at once
constexpr int64_t TASK_ROWS = 512;       // of activations for which a panel is arranged once
constexpr int64_t GROUP = 512;           // columns that `pack` arranges together

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

// A band of quantized activations: row m is `segments` pieces, the first at a + place(m), the next ones `stride` further.
// A piece is as long as that of the weights, and may be read past its end.
template <typename Place, typename Scale>
struct Band {
  const int16_t* a;
  int64_t rows, segments, stride;
  Place place;  // of a row
  Scale scale;  // of a row
};

// Rows m0..m1 of the band times the weight rows n0..n1; y(m, n) at y[m * pitch + n].
template <typename B>
void multiply(const B& band, int64_t m0, int64_t m1, const EdgeWeights& w, int64_t n0, int64_t n1, float* y,
              int64_t pitch) {
  const int64_t steps = ceil_div(w.columns / band.segments, PAIR);
  thread_local std::vector<int8_t> panel;
  panel.resize(band.segments * steps * NR * PAIR);
  for (int64_t n = n0; n < n1; n += NR) {
    const int64_t width = std::min<int64_t>(NR, n1 - n);
    double scales[NR] = {}, biases[NR] = {};
    for (int64_t j = 0; j < width; ++j) scales[j] = w.scale[n + j], biases[j] = w.bias ? w.bias[n + j] : 0;
    pack(w, n, band.segments, panel.data());
    for (int64_t m = m0; m < m1; m += MR) {
      const int16_t* starts[MR];
      double sums[MR][NR] = {};
      for (int i = 0; i < MR; ++i) starts[i] = band.a + band.place(std::min(m + i, m1 - 1));
      const int8_t* weights = panel.data();
      for (int64_t segment = 0; segment < band.segments; ++segment)
        for (int64_t done = 0; done < steps;) {
          const int16_t* rows[MR];
          const int64_t now = std::min(steps - done, STEPS);
          for (int i = 0; i < MR; ++i) rows[i] = starts[i] + segment * band.stride + done * PAIR;
          accumulate(rows, weights, now, [&](int i, int j, Sums s) { empty(s, sums[i] + j * WIDTH); });
          done += now, weights += now * NR * PAIR;
        }
      for (int i = 0; i < MR && m + i < m1; ++i) {
        float out[NR];
        const double scale = band.scale(m + i);
        for (int j = 0; j < NR; ++j) out[j] = float(sums[i][j] * scale * scales[j] + biases[j]);
        std::copy_n(out, width, y + (m + i) * pitch + n);
      }
    }
  }
}

// The whole band, in tasks of some rows times some outputs: several tasks for every thread.
template <typename B>
void multiply_all(const B& band, const EdgeWeights& w, float* y, int64_t pitch) {
#ifdef _OPENMP
  const int64_t tasks = 4 * omp_get_max_threads();
#else
  const int64_t tasks = 1;
#endif
  const int64_t parts = ceil_div(band.rows, TASK_ROWS), part = ceil_div(ceil_div(band.rows, parts), MR) * MR;
  const int64_t piece = ceil_div(ceil_div(w.rows, ceil_div(tasks, parts)), NR) * NR, pieces = ceil_div(w.rows, piece);
#pragma omp parallel for collapse(2) schedule(dynamic)
  for (int64_t i = 0; i < parts; ++i)
    for (int64_t j = 0; j < pieces; ++j)
      multiply(band, i * part, std::min(band.rows, (i + 1) * part), w, j * piece,
               std::min(w.rows, (j + 1) * piece), y, pitch);
}

template <typename Place, typename Scale>
Band<Place, Scale> band_of(const int16_t* a, int64_t rows, int64_t segments, int64_t stride, Place place, Scale scale) {
  return {a, rows, segments, stride, place, scale};
}

// Room for quantized activations; it is kept from call to call.
std::vector<int16_t>& room_for(int64_t count) {
  thread_local std::vector<int16_t> room;
  if (int64_t(room.size()) < count + PAIR) room.resize(count + PAIR);
  return room;
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

}  // namespace

extern "C" {

// x (m, columns) float -> y (m, rows) float, row m of y at y + m * pitch.
void edge_linear(const float* x, int64_t m, const EdgeWeights* w, float levels, float* y, int64_t pitch) {
  const int64_t columns = w->columns, most = std::clamp<int64_t>(BAND_BYTES / (2 * columns), MR, m);
  int16_t* a = room_for(most * columns).data();
  std::vector<float> step(most);
  for (int64_t top = 0; top < m; top += most) {
    const int64_t count = std::min(most, m - top);
#pragma omp parallel for
    for (int64_t i = 0; i < count; ++i) {
      const float* row = x + (top + i) * columns;
      quantize(row, columns, step[i] = largest(row, columns) / levels, a + i * columns);
    }
    const auto place = [&](int64_t i) { return i * columns; };
    const auto scale = [&](int64_t i) { return step[i]; };
    multiply_all(band_of(a, count, 1, 0, place, scale), *w, y + top * pitch, pitch);
  }
}

// x (batch, h, w, c) float -> y (batch, ho, wo, rows) float, pixel i of y at y + i * pitch; columns are (kh, kw, c).
void edge_conv(const float* x, int64_t batch, int64_t h, int64_t width, int64_t c, const int64_t* kernel,
               const int64_t* stride, const int64_t* padding, const EdgeWeights* w, float levels, float* y,
               int64_t pitch) {
  const int64_t kh = kernel[0], kw = kernel[1], wp = width + 2 * padding[1];
  const int64_t ho = (h + 2 * padding[0] - kh) / stride[0] + 1, wo = (wp - kw) / stride[1] + 1;
  const int64_t most = std::clamp<int64_t>((BAND_BYTES / (2 * wp * c) - kh) / stride[0] + 1, 1, ho);
  int16_t* a = room_for(((most - 1) * stride[0] + kh) * wp * c).data();
  std::vector<float> peaks(h);
  for (int64_t b = 0; b < batch; ++b) {
    const float* image = x + b * h * width * c;
#pragma omp parallel for
    for (int64_t line = 0; line < h; ++line) peaks[line] = largest(image + line * width * c, width * c);
    const float step = largest(peaks.data(), h) / levels;
    for (int64_t top = 0; top < ho; top += most) {
      const int64_t count = std::min(most, ho - top), lines = (count - 1) * stride[0] + kh;
#pragma omp parallel for
      for (int64_t line = 0; line < lines; ++line) {
        const int64_t from = top * stride[0] + line - padding[0], side = padding[1] * c, inner = width * c;
        int16_t* out = a + line * wp * c;
        if (from < 0 || from >= h) {
          std::fill_n(out, wp * c, int16_t(0));
        } else {
          std::fill_n(out, side, int16_t(0));
          quantize(image + from * inner, inner, step, out + side);
          std::fill_n(out + side + inner, side, int16_t(0));
        }
      }
      const auto place = [&](int64_t i) { return ((i / wo) * stride[0] * wp + (i % wo) * stride[1]) * c; };
      const auto scale = [&](int64_t) { return step; };
      multiply_all(band_of(a, count * wo, kh, wp * c, place, scale), *w, y + (b * ho + top) * wo * pitch, pitch);
    }
  }
}

}  // extern "C"
