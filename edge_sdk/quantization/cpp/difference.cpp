// Rows as differences to a base: y = y0 + W q(f(x) - f(x0)), where f is the layer's own normalization, activation or gate.
//
// A difference is rounded to bytes with a scale a row; what the layer computed for the base, f(x0) and y0, is given. Sums
// are short (`is_short`), so they leave the registers once: scaled, and y0 added where a layer adds its bias.
#include "images.h"
#include "rows.h"

namespace {

constexpr int64_t BAND_BYTES = 1 << 19;  // of quantized differences at once
constexpr int64_t TASK_ROWS = 512;       // of them for which a panel of weights is arranged once

// to = from - base, or from itself without a base; `from` may be `to`.
void subtract_line(const float* from, const float* base, int64_t count, float* to) {
  if (base)
#pragma omp simd
    for (int64_t k = 0; k < count; ++k) to[k] = from[k] - base[k];
  else if (from != to)
    std::copy_n(from, count, to);
}

// Where outputs go: row m of the product to y + m * rows, set to or added to by y0 of row m % period plus the product.
struct Target {
  const float* y0;
  int64_t period, rows;
  bool is_added;
  float* y;

  int64_t base_of(int64_t m) const { return m % period * rows; }
};

// Quantized differences: a row's step, and where its y0 begins. The first row is row `top` of all.
struct Band {
  const Byte *a, *nothing;
  const float* steps;
  const int64_t* bases;
  int64_t top;
};

// Rows m0..m1 of the band times the weight rows n0..n1.
void multiply(const Band& band, int64_t m0, int64_t m1, const EdgeWeights& w, int64_t n0, int64_t n1,
              const Target& to) {
  using P = Products<Byte>;
  const int64_t count = ceil_div(w.columns, P::STEP);
  int8_t* panel = room_for<int8_t>(count * NR * P::STEP);
  for (int64_t n = n0; n < n1; n += NR) {
    const int64_t width = std::min<int64_t>(NR, n1 - n);
    float scales[NR] = {}, nothing[NR] = {};
    int32_t shift[NR] = {};
    std::copy_n(w.scale + n, width, scales);
    pack<P::STEP>(w, n, 1, panel);
    if constexpr (P::SHIFT != 0) {
      double sums[NR];
      accumulate<1>(&band.nothing, panel, count, [&](int, int j, Sums s) { widen(s, sums + j * WIDTH); });
      std::copy_n(sums, NR, shift);
    }
    const bool is_direct = width == NR && !to.is_added;
    for (int64_t m = m0; m < m1; m += MR) {
      const int64_t rows = std::min<int64_t>(MR, m1 - m);
      float apart[MR][NR], scale[MR], *out[MR];
      const float* base[MR];
      const Byte* starts[MR];
      for (int i = 0; i < MR; ++i) {
        const int64_t row = m + std::min<int64_t>(i, rows - 1);
        starts[i] = band.a + row * w.columns, scale[i] = band.steps[row];
        base[i] = width == NR ? to.y0 + band.bases[row] + n : nothing;
        out[i] = i < rows && is_direct ? to.y + (band.top + row) * to.rows + n : apart[i];
      }
      accumulate<MR>(starts, panel, count, [&](int i, int j, Sums s) {
        const int at = j * WIDTH;
        if constexpr (P::SHIFT != 0) s = subtract(s, shift + at);
        finish_row(s, scale[i], scales + at, base[i] + at, out[i] + at);
      });
      for (int i = 0; i < rows && !is_direct; ++i) {
        float* y = to.y + (band.top + m + i) * to.rows + n;
        const float* y0 = to.y0 + band.bases[m + i] + n;
        for (int64_t j = 0; j < width; ++j) {
          const float value = width == NR ? apart[i][j] : apart[i][j] + y0[j];
          y[j] = to.is_added ? y[j] + value : value;
        }
      }
    }
  }
}

// All m rows; change(i, room) writes what row i differs by from its base.
template <typename Change>
void multiply_differences(int64_t m, const EdgeWeights& w, const Target& to, const Change& change) {
  using P = Products<Byte>;
  const int64_t columns = w.columns, most = std::clamp<int64_t>(BAND_BYTES / (int64_t(sizeof(Byte)) * columns), MR, m);
  Byte* a = room_for<Byte>(most * columns + P::STEP + columns + P::STEP);
  Byte* nothing = a + most * columns + P::STEP;
  std::fill_n(nothing - P::STEP, columns + 2 * P::STEP, Byte(P::SHIFT));
  std::vector<float> steps(most);
  std::vector<int64_t> bases(most);
  for (int64_t top = 0; top < m; top += most) {
    const int64_t count = std::min(most, m - top);
    parallel_for(count, lines_of(columns), [&](int64_t i) {
      float* row = room_for<float>(columns);
      change(top + i, row);
      bases[i] = to.base_of(top + i);
      quantize(row, columns, steps[i] = largest(row, columns) / BYTE_LEVELS, a + i * columns);
    });
    const int64_t parts = ceil_div(count, TASK_ROWS), part = ceil_div(ceil_div(count, parts), MR) * MR;
    const int64_t piece = ceil_div(ceil_div(w.rows, ceil_div(wanted_tasks(), parts)), NR) * NR;
    const int64_t pieces = ceil_div(w.rows, piece);
    parallel_for(parts * pieces, 1, [&](int64_t task) {
      const int64_t i = task / pieces, j = task % pieces;
      multiply({a, nothing, steps.data(), bases.data(), top}, i * part, std::min(count, (i + 1) * part), w,
               j * piece, std::min(w.rows, (j + 1) * piece), to);
    });
  }
}

// Pixel i of images, of `pixels` each, as it is before it is quantized.
const float* pixel_of(const EdgeImages& x, int64_t i, int64_t pixels, float* room) {
  const int64_t c = x.c(), first = x.channels[0], image = i / pixels;
  if (!x.scales && first == c) return x.parts[0] + i * c;
  for (int part = 0; part < 2; ++part) {
    const int64_t count = x.channels[part], at = part * first;
    const float* from = x.parts[part] + i * count;
    if (x.scales)
      normalize_pixel(from, count, x.scales + image * c + at, x.shifts + image * c + at, x.is_activated, room + at);
    else
      std::copy_n(from, count, room + at);
  }
  return room;
}

// room -= pixel i of plain images.
void subtract_pixel(const EdgeImages& x, int64_t i, const float* from, float* room) {
  for (int part = 0; part < 2; ++part) {
    const int64_t count = x.channels[part], at = part * x.channels[0];
    if (count) subtract_line(from + at, x.parts[part] + i * count, count, room + at);
  }
}

}  // namespace

extern "C" {

// Rows of a linear layer: out (m, columns), row i minus row i % period of `base` (period, columns), which may be null.
int edge_row_differences(int64_t threads, const float* x, int64_t m, const EdgeRows* how, int64_t columns,
                         const float* base, int64_t period, float* out) {
  return with_threads(threads, [&] {
    parallel_for(m, lines_of(columns), [&](int64_t i) {
      float* to = out + i * columns;
      subtract_line(row_of(x, i, columns, *how, to), base ? base + i % period * columns : nullptr, columns, to);
    });
  });
}

// Images of a convolution: out (batch, h, w, c) minus the one image `base` (h, w, c), which may be null.
int edge_image_differences(int64_t threads, const EdgeImages* x, int64_t batch, int64_t h, int64_t width,
                           const float* base, float* out) {
  return with_threads(threads, [&] {
    const int64_t line = width * x->c();
    parallel_for(batch * h, lines_of(line), [&](int64_t i) {
      float* to = out + i * line;
      subtract_line(line_of(*x, i / h, i, width, to), base ? base + i % h * line : nullptr, line, to);
    });
  });
}

// y (m, rows), or what is added to it, from y0 (period, rows) and what rows of x differ by from `base` (period, columns).
int edge_linear_difference(int64_t threads, const float* x, int64_t m, const EdgeRows* how, const float* base,
                           int64_t period, const EdgeWeights* w, const float* y0, int64_t is_added, float* y) {
  return with_threads(threads, [&] {
    const Target to{y0, period, w->rows, is_added != 0, y};
    multiply_differences(m, *w, to, [&](int64_t i, float* room) {
      subtract_line(row_of(x, i, w->columns, *how, room), base + i % period * w->columns, w->columns, room);
    });
  });
}

// The same for the pixels of images and a convolution of 1 x 1; `base` is one image, without a normalization.
int edge_pointwise_difference(int64_t threads, const EdgeImages* x, int64_t batch, int64_t pixels,
                              const EdgeImages* base, const EdgeWeights* w, const float* y0, int64_t is_added,
                              float* y) {
  return with_threads(threads, [&] {
    const Target to{y0, pixels, w->rows, is_added != 0, y};
    multiply_differences(batch * pixels, *w, to, [&](int64_t i, float* room) {
      subtract_pixel(*base, i % pixels, pixel_of(*x, i, pixels, room), room);
    });
  });
}

// Pixels (count, c) as bytes: what they differ by from those of `base` (period, c), and its step (count).
int edge_hold(int64_t threads, const float* x, int64_t count, int64_t c, const float* base, int64_t period, int8_t* q,
              float* steps) {
  return with_threads(threads, [&] {
    parallel_for(count, lines_of(c), [&](int64_t i) {
      float* room = room_for<float>(c);
      subtract_line(x + i * c, base + i % period * c, c, room);
      const float step = steps[i] = largest(room, c) / BYTE_LEVELS, inverse = 1 / step;
#pragma omp simd
      for (int64_t k = 0; k < c; ++k) q[i * c + k] = int8_t(int32_t(std::nearbyint(room[k] * inverse)));
    });
  });
}

// The pixels that bytes stand for.
int edge_restore(int64_t threads, const int8_t* q, const float* steps, int64_t count, int64_t c, const float* base,
                 int64_t period, float* x) {
  return with_threads(threads, [&] {
    parallel_for(count, lines_of(c), [&](int64_t i) {
      const float* from = base + i % period * c;
#pragma omp simd
      for (int64_t k = 0; k < c; ++k) x[i * c + k] = from[k] + float(q[i * c + k]) * steps[i];
    });
  });
}

}  // extern "C"
