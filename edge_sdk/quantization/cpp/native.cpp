// Products of 16-bit activations and int8 or int4 weights, summed in integers. Weights are widened in registers only.
// Activations of at most 127 levels are bytes, where the processor can multiply these.
//
// Activations are quantized a band at a time, one scale per row (linear) or per sample (convolution); a convolution
// reads its windows where they lie in the padded NHWC band: there is no im2col.
// Weights are arranged in panels of a few output channels just before they are used. Every lane sums for one output.
// Where a sum could overflow, the lane is emptied into a double before, which holds all these sums exactly. They are
// multiplied by the scales once, at the end, as they leave the registers if they are short.
#include "images.h"
#include "rows.h"

namespace {

constexpr int64_t BAND_BYTES = 1 << 19;  // of quantized activations at once
constexpr int64_t BAND_ROWS = 128;         // at once at least, so that weights are arranged seldom
constexpr int64_t PANEL_BYTES = 192 << 10;  // of weights arranged at once
constexpr int64_t TASK_ROWS = 512;       // of activations for which a panel is arranged once

// A band of quantized activations: row m is `segments` pieces, the first at a + places[m], the next ones `stride` further.
// A piece is as long as that of the weights, and may be read past its end. `nothing` is a piece of zeros, if a SHIFT is
// added to activations.
template <typename A>
struct Band {
  const A *a, *nothing;
  int64_t rows, segments, stride;
  const int64_t* places;
  const float* scales;
  bool is_short, is_added;  // whether sums are short, and whether outputs are added to what is there
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

// Outputs n..n + width of a panel: their scales and biases, and the sums of a row of zeros.
struct Columns {
  float scales[NR] = {}, biases[NR] = {};
  int32_t shift[NR] = {};
  int64_t n, width;

  Columns(const EdgeWeights& w, int64_t n, int64_t end) : n(n), width(std::min<int64_t>(NR, end - n)) {
    for (int64_t j = 0; j < width; ++j) scales[j] = w.scale[n + j], biases[j] = w.bias ? w.bias[n + j] : 0;
  }
};

void put(const float* from, int64_t count, bool is_added, float* to) {
  if (is_added)
#pragma omp simd
    for (int64_t j = 0; j < count; ++j) to[j] += from[j];
  else
    std::copy_n(from, count, to);
}

// Asks for NR outputs of a row that are written soon.
inline void expect_row(const float* to) {
  for (int64_t j = 0; j < NR; j += LINE / int64_t(sizeof(float))) __builtin_prefetch(to + j, 1);
}

// Rows m.. of the band times a panel, where sums are short.
template <typename A>
void multiply_short(const Band<A>& band, const A* const* starts, int64_t m, int64_t count, int64_t steps,
                    const int8_t* panel, const Columns& columns, float* y, int64_t pitch) {
  float apart[MR][NR], scales[MR], *to[MR];  // `apart` for what is no row or no whole panel
  const bool direct = columns.width == NR && !band.is_added;
  for (int i = 0; i < MR; ++i) {
    float* const row = y + (m + std::min<int64_t>(i, count - 1)) * pitch + columns.n;
    to[i] = i < count && direct ? row : apart[i];
    scales[i] = band.scales[m + std::min<int64_t>(i, count - 1)];
    expect_row(row);
  }
  const auto finish = [&](int i, int j, Sums s) {
    const int at = j * WIDTH;
    if constexpr (Products<A>::SHIFT != 0) s = subtract(s, columns.shift + at);
    finish_row(s, scales[i], columns.scales + at, columns.biases + at, to[i] + at);
  };
  accumulate<MR>(starts, panel, steps, finish, band.segments, band.stride);
  if (!direct)
    for (int i = 0; i < count; ++i) put(apart[i], columns.width, band.is_added, y + (m + i) * pitch + columns.n);
}

// The same where they are not.
template <typename A>
void multiply_long(const Band<A>& band, const A* const* starts, int64_t m, int64_t count, int64_t steps,
                   const int8_t* panel, const Columns& columns, float* y, int64_t pitch) {
  double sums[MR][NR] = {};
  for (int i = 0; i < count; ++i) expect_row(y + (m + i) * pitch + columns.n);
  add_rows<MR>(starts, band.segments, band.stride, steps, panel, sums);
  for (int i = 0; i < count; ++i) {
    float out[NR];
    const double scale = band.scales[m + i];
    for (int j = 0; j < NR; ++j)
      out[j] = float((sums[i][j] - columns.shift[j]) * scale * columns.scales[j] + columns.biases[j]);
    put(out, columns.width, band.is_added, y + (m + i) * pitch + columns.n);
  }
}

// Rows m0..m1 of the band times the weight rows n0..n1; y(m, n) at y[m * pitch + n]. Several panels are arranged at once
// and a few rows meet them all, so that a row's outputs are written one after another.
template <typename A>
void multiply(const Band<A>& band, int64_t m0, int64_t m1, const EdgeWeights& w, int64_t n0, int64_t n1,
              float* y, int64_t pitch) {
  constexpr int STEP = Products<A>::STEP;
  const int64_t steps = ceil_div(w.columns / band.segments, STEP), size = band.segments * steps * NR * STEP;
  const int64_t most = std::clamp<int64_t>(PANEL_BYTES / size, 1, ceil_div(n1 - n0, NR));
  int8_t* panels = room_for<int8_t>(most * size);
  std::vector<Columns> columns;
  columns.reserve(most);
  const auto run = band.is_short ? multiply_short<A> : multiply_long<A>;
  for (int64_t n = n0; n < n1; n += most * NR) {
    columns.clear();
    for (int64_t at = n; at < std::min(n1, n + most * NR); at += NR) {
      int8_t* const panel = panels + int64_t(columns.size()) * size;
      columns.emplace_back(w, at, n1);
      pack<STEP>(w, at, band.segments, panel);
      if constexpr (Products<A>::SHIFT != 0) {
        double sums[1][NR] = {};
        add_rows<1>(&band.nothing, band.segments, 0, steps, panel, sums);
        std::copy_n(sums[0], NR, columns.back().shift);
      }
    }
    for (int64_t m = m0; m < m1; m += MR) {
      const int64_t count = std::min<int64_t>(MR, m1 - m);
      const A* starts[MR];
      for (int i = 0; i < MR; ++i) starts[i] = band.a + band.places[m + std::min<int64_t>(i, count - 1)];
      for (size_t i = 0; i < columns.size(); ++i)
        run(band, starts, m, count, steps, panels + int64_t(i) * size, columns[i], y, pitch);
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

// Room for `count` activations of a band, and after them for a piece of `piece` zeros.
template <typename A>
A* room_for_band(int64_t count, int64_t piece) {
  constexpr int64_t SHIFT = Products<A>::SHIFT, PAST = Products<A>::STEP;  // how far may be read past the end
  A* a = room_for<A>(count + PAST + (SHIFT ? piece : 0));
  if (SHIFT) std::fill_n(a + count, piece + PAST, A(SHIFT));
  return a;
}

template <typename A>
void linear(const float* x, int64_t m, const EdgeRows& how, const EdgeWeights& w, float levels, bool is_added, float* y,
            int64_t pitch) {
  const int64_t columns = w.columns, most = std::min(std::max(BAND_BYTES / (int64_t(sizeof(A)) * columns), BAND_ROWS), m);
  A* a = room_for_band<A>(most * columns, columns);
  std::vector<float> step(most);
  std::vector<int64_t> places(most);
  for (int64_t i = 0; i < most; ++i) places[i] = i * columns;
  for (int64_t top = 0; top < m; top += most) {
    const int64_t count = std::min(most, m - top);
    parallel_for(count, lines_of(columns), [&](int64_t i) {
      const float* row = row_of(x, top + i, columns, how, room_for<float>(columns));
      quantize(row, columns, step[i] = largest(row, columns) / levels, a + i * columns);
    });
    const Band<A> band{a, a + most * columns, count, 1, 0, places.data(), step.data(), is_short(columns, levels),
                       is_added};
    multiply_all(band, w, y + top * pitch, pitch);
  }
}

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
      const Band<A> band{a, a + all * size, rows, kh, wp * c, places.data(), scales.data(), few, is_added};
      multiply_all(band, w, y + (b * ho + top) * wo * pitch, pitch);
    }
  }
}

}  // namespace

extern "C" {

// All return 0, or 1 if there was no memory for the work, which up to `threads` threads do.

// x (m, columns), or (m, 2 * columns) with gates, float -> y (m, rows) float, row m of y at y + m * pitch: set or added.
int edge_linear(int64_t threads, const float* x, int64_t m, const EdgeRows* how, const EdgeWeights* w, float levels,
                int64_t is_added, float* y, int64_t pitch) {
  return with_threads(threads, [&] {
    (levels > BYTE_LEVELS ? linear<int16_t> : linear<Byte>)(x, m, *how, *w, levels, is_added, y, pitch);
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
