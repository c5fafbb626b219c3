// What a layer's inputs differ by from those of another row, after the layer's own normalization, activation or gate.
#include "images.h"
#include "rows.h"

namespace {

// to = from - base, or from itself without a base; `from` may be `to`.
void subtract_line(const float* from, const float* base, int64_t count, float* to) {
  if (base)
    for (int64_t k = 0; k < count; ++k) to[k] = from[k] - base[k];
  else if (from != to)
    std::copy_n(from, count, to);
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

}  // extern "C"
