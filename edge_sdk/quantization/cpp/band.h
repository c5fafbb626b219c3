// Quantized activations times panels of weights, for linear layers and for convolutions that read their windows.
#pragma once

#include "integer.h"

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
  bool is_short;  // whether sums are
};

// Where outputs go: number n of row m to y[m * pitch + n], set or added. Row 0 is row `first` of all that have biases.
struct Target {
  float* y;
  int64_t pitch, first;
  bool is_added;
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
  float scales[NR] = {}, common[NR] = {};
  int32_t shift[NR] = {};
  int64_t n, width;

  Columns(const EdgeWeights& w, int64_t n, int64_t end) : n(n), width(std::min<int64_t>(NR, end - n)) {
    for (int64_t j = 0; j < width; ++j) scales[j] = w.scale[n + j], common[j] = w.bias && !w.period ? w.bias[n + j] : 0;
  }

  // NR biases of a row: those of all rows, or its own, which may be copied to `room`.
  const float* biases(const float* own, float* room) const {
    if (!own) return common;
    if (width == NR) return own + n;
    std::copy_n(own + n, width, room);
    return room;
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
                    const int8_t* panel, const Columns& columns, const float* const* own, const Target& target) {
  float apart[MR][NR], scales[MR], *to[MR], room[MR][NR];  // `apart` for what is no row or no whole panel
  const float* biases[MR];
  const bool direct = columns.width == NR && !target.is_added;
  float* const y = target.y + columns.n;
  for (int i = 0; i < MR; ++i) {
    float* const row = y + (m + std::min<int64_t>(i, count - 1)) * target.pitch;
    to[i] = i < count && direct ? row : apart[i];
    biases[i] = columns.biases(own[i], room[i]);
    scales[i] = band.scales[m + std::min<int64_t>(i, count - 1)];
    expect_row(row);
  }
  const auto finish = [&](int i, int j, Sums s) {
    const int at = j * WIDTH;
    if constexpr (Products<A>::SHIFT != 0) s = subtract(s, columns.shift + at);
    finish_row(s, scales[i], columns.scales + at, biases[i] + at, to[i] + at);
  };
  accumulate<MR>(starts, panel, steps, finish, band.segments, band.stride);
  if (!direct)
    for (int i = 0; i < count; ++i) put(apart[i], columns.width, target.is_added, y + (m + i) * target.pitch);
}

// The same where they are not.
template <typename A>
void multiply_long(const Band<A>& band, const A* const* starts, int64_t m, int64_t count, int64_t steps,
                   const int8_t* panel, const Columns& columns, const float* const* own, const Target& target) {
  double sums[MR][NR] = {};
  float* const y = target.y + columns.n;
  for (int i = 0; i < count; ++i) expect_row(y + (m + i) * target.pitch);
  add_rows<MR>(starts, band.segments, band.stride, steps, panel, sums);
  for (int i = 0; i < count; ++i) {
    float out[NR], room[NR] = {};
    const double scale = band.scales[m + i];
    const float* const biases = columns.biases(own[i], room);
    for (int j = 0; j < NR; ++j)
      out[j] = float((sums[i][j] - columns.shift[j]) * scale * columns.scales[j] + biases[j]);
    put(out, columns.width, target.is_added, y + (m + i) * target.pitch);
  }
}

// Rows m0..m1 of the band times the weight rows n0..n1. Several panels are arranged at once
// and a few rows meet them all, so that a row's outputs are written one after another.
template <typename A>
void multiply(const Band<A>& band, int64_t m0, int64_t m1, const EdgeWeights& w, int64_t n0, int64_t n1,
              const Target& target) {
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
      const float* own[MR];
      for (int i = 0; i < MR; ++i) {
        const int64_t row = m + std::min<int64_t>(i, count - 1);
        starts[i] = band.a + band.places[row];
        own[i] = w.period ? w.bias + (target.first + row) % w.period * w.rows : nullptr;
      }
      for (size_t i = 0; i < columns.size(); ++i)
        run(band, starts, m, count, steps, panels + int64_t(i) * size, columns[i], own, target);
    }
  }
}

// The whole band, in tasks of some rows times some outputs: several tasks for every thread.
template <typename B>
void multiply_all(const B& band, const EdgeWeights& w, const Target& target) {
  const int64_t tasks = wanted_tasks();
  const int64_t parts = ceil_div(band.rows, TASK_ROWS), part = ceil_div(ceil_div(band.rows, parts), MR) * MR;
  const int64_t piece = ceil_div(ceil_div(w.rows, ceil_div(tasks, parts)), NR) * NR, pieces = ceil_div(w.rows, piece);
  parallel_for(parts * pieces, 1, [&](int64_t task) {
    const int64_t i = task / pieces, j = task % pieces;
    multiply(band, i * part, std::min(band.rows, (i + 1) * part), w, j * piece, std::min(w.rows, (j + 1) * piece),
             target);
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

// m rows of `columns` numbers, each with a scale of its own, times the weights of `layers` layers; row(i, room) is row i.
template <typename A, typename Row>
void multiply_rows(int64_t m, int64_t columns, const EdgeWeights* const* w, int64_t layers, float levels, bool is_added,
                   float* const* y, const int64_t* pitches, const Row& row) {
  const int64_t most = std::min(std::max(BAND_BYTES / (int64_t(sizeof(A)) * columns), BAND_ROWS), m);
  A* a = room_for_band<A>(most * columns, columns);
  std::vector<float> step(most);
  std::vector<int64_t> places(most);
  for (int64_t i = 0; i < most; ++i) places[i] = i * columns;
  for (int64_t top = 0; top < m; top += most) {
    const int64_t count = std::min(most, m - top);
    parallel_for(count, lines_of(columns), [&](int64_t i) {
      const float* x = row(top + i, room_for<float>(columns));
      quantize(x, columns, step[i] = largest(x, columns) / levels, a + i * columns);
    });
    const Band<A> band{a, a + most * columns, count, 1, 0, places.data(), step.data(), is_short(columns, levels)};
    for (int64_t i = 0; i < layers; ++i)
      multiply_all(band, *w[i], Target{y[i] + top * pitches[i], pitches[i], top, is_added});
  }
}

}  // namespace
