// Products of 16-bit activations and int8 or int4 weights, summed in integers. Weights are widened in registers only.
// Activations of at most 127 levels are bytes, where the processor can multiply these.
//
// Activations are quantized a band at a time, one scale per row (linear) or per sample (convolution); a convolution
// reads its windows where they lie in the padded NHWC band: there is no im2col.
// Weights are arranged in panels of a few output channels just before they are used. Every lane sums for one output;
// it is emptied into a double before it could overflow, and a double holds all these sums exactly. They are multiplied
// by the scales once, at the end.
#include "integer.h"

namespace {

constexpr float BYTE_LEVELS = 127;       // the most that a byte holds on both sides of zero
constexpr int64_t BAND_BYTES = 2 << 20;  // of quantized activations at once
constexpr int64_t TASK_ROWS = 512;       // of activations for which a panel is arranged once

// A band of quantized activations: row m is `segments` pieces, the first at a + place(m), the next ones `stride` further.
// A piece is as long as that of the weights, and may be read past its end. `nothing` is a piece of zeros, if a SHIFT is
// added to activations.
template <typename A, typename Place, typename Scale>
struct Band {
  const A *a, *nothing;
  int64_t rows, segments, stride;
  Place place;  // of a row
  Scale scale;  // of a row
};

// Adds ROWS rows times a panel to their sums.
template <int ROWS, typename A>
void add_rows(const A* const* starts, int64_t segments, int64_t stride, int64_t steps, const int8_t* weights,
              double (*sums)[NR]) {
  constexpr int STEP = Products<A>::STEP;
  for (int64_t segment = 0; segment < segments; ++segment)
    for (int64_t done = 0; done < steps;) {
      const A* rows[ROWS];
      const int64_t now = std::min(steps - done, Products<A>::MOST);
      for (int i = 0; i < ROWS; ++i) rows[i] = starts[i] + segment * stride + done * STEP;
      accumulate<ROWS>(rows, weights, now, [&](int i, int j, Sums s) { empty(s, sums[i] + j * WIDTH); });
      done += now, weights += now * NR * STEP;
    }
}

// Rows m0..m1 of the band times the weight rows n0..n1; y(m, n) at y[m * pitch + n].
template <typename A, typename Place, typename Scale>
void multiply(const Band<A, Place, Scale>& band, int64_t m0, int64_t m1, const EdgeWeights& w, int64_t n0, int64_t n1,
              float* y, int64_t pitch) {
  constexpr int STEP = Products<A>::STEP;
  const int64_t steps = ceil_div(w.columns / band.segments, STEP);
  int8_t* panel = room_for<int8_t>(band.segments * steps * NR * STEP);
  for (int64_t n = n0; n < n1; n += NR) {
    const int64_t width = std::min<int64_t>(NR, n1 - n);
    double scales[NR] = {}, biases[NR] = {};
    [[maybe_unused]] double shift[1][NR] = {};  // what the sums of a row of zeros are
    for (int64_t j = 0; j < width; ++j) scales[j] = w.scale[n + j], biases[j] = w.bias ? w.bias[n + j] : 0;
    pack<STEP>(w, n, band.segments, panel);
    if constexpr (Products<A>::SHIFT != 0) add_rows<1>(&band.nothing, band.segments, 0, steps, panel, shift);
    for (int64_t m = m0; m < m1; m += MR) {
      const A* starts[MR];
      double sums[MR][NR] = {};
      for (int i = 0; i < MR; ++i) starts[i] = band.a + band.place(std::min(m + i, m1 - 1));
      add_rows<MR>(starts, band.segments, band.stride, steps, panel, sums);
      for (int i = 0; i < MR && m + i < m1; ++i) {
        float out[NR];
        const double scale = band.scale(m + i);
        if constexpr (Products<A>::SHIFT != 0)
          for (int j = 0; j < NR; ++j) sums[i][j] -= shift[0][j];
        for (int j = 0; j < NR; ++j) out[j] = float(sums[i][j] * scale * scales[j] + biases[j]);
        std::copy_n(out, width, y + (m + i) * pitch + n);
      }
    }
  }
}

// The whole band, in tasks of some rows times some outputs: several tasks for every thread.
template <typename B>
void multiply_all(const B& band, const EdgeWeights& w, float* y, int64_t pitch) {
  const int64_t tasks = wanted_tasks();
  const int64_t parts = ceil_div(band.rows, TASK_ROWS), part = ceil_div(ceil_div(band.rows, parts), MR) * MR;
  const int64_t piece = ceil_div(ceil_div(w.rows, ceil_div(tasks, parts)), NR) * NR, pieces = ceil_div(w.rows, piece);
  parallel_for(parts * pieces, 1, [&](int64_t task) {
    const int64_t i = task / pieces, j = task % pieces;
    multiply(band, i * part, std::min(band.rows, (i + 1) * part), w, j * piece, std::min(w.rows, (j + 1) * piece), y,
             pitch);
  });
}

template <typename A, typename Place, typename Scale>
Band<A, Place, Scale> band_of(const A* a, const A* nothing, int64_t rows, int64_t segments, int64_t stride, Place place,
                              Scale scale) {
  return {a, nothing, rows, segments, stride, place, scale};
}

// Room for `count` activations of a band, and after them for a piece of `piece` zeros.
template <typename A>
A* room_for_band(int64_t count, int64_t piece) {
  constexpr int64_t SHIFT = Products<A>::SHIFT, PAST = Products<A>::STEP;  // how far may be read past the end
  A* a = room_for<A>(count + PAST + (SHIFT ? piece : 0));
  if (SHIFT) std::fill_n(a + count, piece + PAST, A(SHIFT));
  return a;
}

template <typename A>
void linear(const float* x, int64_t m, const EdgeWeights& w, float levels, float* y, int64_t pitch) {
  const int64_t columns = w.columns, most = std::clamp<int64_t>(BAND_BYTES / (int64_t(sizeof(A)) * columns), MR, m);
  A* a = room_for_band<A>(most * columns, columns);
  std::vector<float> step(most);
  for (int64_t top = 0; top < m; top += most) {
    const int64_t count = std::min(most, m - top);
    parallel_for(count, lines_of(columns), [&](int64_t i) {
      const float* row = x + (top + i) * columns;
      quantize(row, columns, step[i] = largest(row, columns) / levels, a + i * columns);
    });
    const auto place = [&](int64_t i) { return i * columns; };
    const auto scale = [&](int64_t i) { return step[i]; };
    multiply_all(band_of(a, a + most * columns, count, 1, 0, place, scale), w, y + top * pitch, pitch);
  }
}

template <typename A>
void convolve(const float* x, int64_t batch, int64_t h, int64_t width, int64_t c, const int64_t* kernel,
              const int64_t* stride, const int64_t* padding, const EdgeWeights& w, float levels, float* y,
              int64_t pitch) {
  const int64_t kh = kernel[0], kw = kernel[1], wp = width + 2 * padding[1];
  const int64_t ho = (h + 2 * padding[0] - kh) / stride[0] + 1, wo = (wp - kw) / stride[1] + 1;
  const int64_t lines_most = BAND_BYTES / (int64_t(sizeof(A)) * wp * c);
  const int64_t most = std::clamp<int64_t>((lines_most - kh) / stride[0] + 1, 1, ho);
  const int64_t size = ((most - 1) * stride[0] + kh) * wp * c, all = images_together(most == ho, sizeof(A) * size, batch);
  A* a = room_for_band<A>(all * size, kw * c);
  for (int64_t b = 0; b < batch; b += all) {
    const int64_t images = std::min(all, batch - b);
    const auto steps = steps_of(x + b * h * width * c, images, h, width * c, levels);
    for (int64_t top = 0; top < ho; top += most) {
      const int64_t count = std::min(most, ho - top);
      const Lines lines{h, width, c, top * stride[0] - padding[0], (count - 1) * stride[0] + kh, padding[1], wp};
      quantize_lines(x + b * h * width * c, steps, lines, a);
      const int64_t pixels = count * wo;
      const auto place = [&](int64_t i) {
        const int64_t image = i / pixels, pixel = i % pixels;
        return image * lines.size() + ((pixel / wo) * stride[0] * wp + (pixel % wo) * stride[1]) * c;
      };
      const auto scale = [&](int64_t i) { return steps[i / pixels]; };
      const auto band = band_of(a, a + all * size, images * pixels, kh, wp * c, place, scale);
      multiply_all(band, w, y + (b * ho + top) * wo * pitch, pitch);
    }
  }
}

}  // namespace

extern "C" {

// All return 0, or 1 if there was no memory for the work, which up to `threads` threads do.

// x (m, columns) float -> y (m, rows) float, row m of y at y + m * pitch.
int edge_linear(int64_t threads, const float* x, int64_t m, const EdgeWeights* w, float levels, float* y,
                int64_t pitch) {
  return with_threads(threads, [&] {
    (levels > BYTE_LEVELS ? linear<int16_t> : linear<Byte>)(x, m, *w, levels, y, pitch);
  });
}

// x (batch, h, w, c) float -> y (batch, ho, wo, rows) float, pixel i of y at y + i * pitch; columns are (kh, kw, c).
int edge_conv(int64_t threads, const float* x, int64_t batch, int64_t h, int64_t width, int64_t c,
              const int64_t* kernel, const int64_t* stride, const int64_t* padding, const EdgeWeights* w, float levels,
              float* y, int64_t pitch) {
  return with_threads(threads, [&] {
    const auto convolve_so = levels > BYTE_LEVELS ? convolve<int16_t> : convolve<Byte>;
    convolve_so(x, batch, h, width, c, kernel, stride, padding, *w, levels, y, pitch);
  });
}

}  // extern "C"
