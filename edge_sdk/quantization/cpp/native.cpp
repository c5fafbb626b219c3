// Products of 16-bit activations and int8 or int4 weights, summed in integers. Weights are widened in registers only.
// Activations of at most 127 levels are bytes, where the processor can multiply these.
//
// Activations are quantized a band at a time, one scale per row (linear) or per sample (convolution); a convolution
// reads its windows where they lie in the padded NHWC band: there is no im2col.
// Weights are arranged in panels of a few output channels just before they are used. Every lane sums for one output.
// Where a sum could overflow, the lane is emptied into a double before, which holds all these sums exactly. They are
// multiplied by the scales once, at the end, as they leave the registers if they are short.
#include "band.h"
#include "images.h"
#include "rows.h"

namespace {

// Rows of a linear layer's input as they are quantized.
struct Rows {
  const float* x;
  int64_t columns;
  const EdgeRows& how;

  const float* operator()(int64_t i, float* room) const { return row_of(x, i, columns, how, room); }
};

template <typename A>
void convolve(const EdgeImages& x, int64_t batch, int64_t h, int64_t width, const int64_t* kernel,
              const int64_t* stride, const int64_t* padding, const EdgeWeights& w, float levels, bool is_added,
              float* y, int64_t pitch) {
  const int64_t c = x.c();
  const int64_t kh = kernel[0], kw = kernel[1], wp = width + 2 * padding[1];
  const int64_t ho = (h + 2 * padding[0] - kh) / stride[0] + 1, wo = (wp - kw) / stride[1] + 1;
  const int64_t lines_most = BAND_BYTES / (int64_t(sizeof(A)) * wp * c);
  const int64_t most = std::clamp<int64_t>((lines_most - kh) / stride[0] + 1, 1, ho);
  const int64_t size = ((most - 1) * stride[0] + kh) * wp * c;
  // Small images share a band, so that weights are arranged once for them all.
  const int64_t all = most < ho ? 1 : std::clamp<int64_t>(BAND_BYTES / (int64_t(sizeof(A)) * size), 1, batch);
  A* a = room_for_band<A>(all * size, kw * c);
  std::vector<int64_t> places;
  std::vector<float> scales;
  for (int64_t b = 0; b < batch; b += all) {
    const int64_t images = std::min(all, batch - b);
    const auto steps = steps_of(x, b, images, h, width, levels);
    for (int64_t top = 0; top < ho; top += most) {
      const int64_t count = std::min(most, ho - top);
      const Lines lines{h, width, c, top * stride[0] - padding[0], (count - 1) * stride[0] + kh, padding[1], wp};
      quantize_lines(x, b, steps, lines, a);
      places.clear(), scales.clear();
      for (int64_t image = 0; image < images; ++image)
        for (int64_t line = 0; line < count; ++line)
          for (int64_t pixel = 0; pixel < wo; ++pixel) {
            places.push_back(image * lines.size() + (line * stride[0] * wp + pixel * stride[1]) * c);
            scales.push_back(steps[image]);
          }
      const int64_t rows = images * count * wo;
      const bool few = is_short(w.columns, levels);
      const Band<A> band{a, a + all * size, rows, kh, wp * c, places.data(), scales.data(), few};
      const int64_t first = (b * ho + top) * wo;
      multiply_all(band, w, Target{y + first * pitch, pitch, first, is_added});
    }
  }
}

}  // namespace

extern "C" {

// All return 0, or 1 if there was no memory for the work, which up to `threads` threads do.

// x (m, columns), or (m, 2 * columns) with gates, float -> of each of `layers` layers y (m, rows) float, row m of it at
// y + m * pitch: set or added.
int edge_linear(int64_t threads, const float* x, int64_t m, const EdgeRows* how, int64_t layers,
                const EdgeWeights* const* w, float levels, int64_t is_added, float* const* y, const int64_t* pitches) {
  return with_threads(threads, [&] {
    const int64_t columns = w[0]->columns;
    const auto multiply_so = levels > BYTE_LEVELS ? multiply_rows<int16_t, Rows> : multiply_rows<Byte, Rows>;
    multiply_so(m, columns, w, layers, levels, is_added, y, pitches, Rows{x, columns, *how});
  });
}

// x (batch, h, w, c) float -> y (batch, ho, wo, rows) float, pixel i of y at y + i * pitch; columns are (kh, kw, c).
int edge_conv(int64_t threads, const EdgeImages* x, int64_t batch, int64_t h, int64_t width, const int64_t* kernel,
              const int64_t* stride, const int64_t* padding, const EdgeWeights* w, float levels, int64_t is_added,
              float* y, int64_t pitch) {
  return with_threads(threads, [&] {
    const auto convolve_so = levels > BYTE_LEVELS ? convolve<int16_t> : convolve<Byte>;
    convolve_so(*x, batch, h, width, kernel, stride, padding, *w, levels, is_added, y, pitch);
  });
}

}  // extern "C"
