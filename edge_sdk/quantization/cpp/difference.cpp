// Rows as differences to a base: y = y0 + W q(f(x) - f(x0)), where f is the layer's own normalization, activation or gate.
//
// A difference is rounded to bytes with a scale a row or an image; what the layer computed for the base, f(x0) and y0, is
// given. y0 takes the place of the biases. Linear layers are `edge_linear`; what images need is here.
#include "band.h"
#include "images.h"
#include "rows.h"

namespace {

// Pixel i of images, of `pixels` each, as it is quantized: what it differs by from that of one image, which is plain and
// has one part where x is normalized.
struct Pixels {
  const EdgeImages &x, &base;
  int64_t pixels;

  const float* operator()(int64_t i, float* room) const {
    const int64_t c = x.c(), here = i % pixels;
    for (int part = 0; part < 2; ++part) {
      const int64_t count = x.channels[part], at = part * x.channels[0], scales = i / pixels * c + at;
      if (!count) continue;
      const float *from = x.parts[part] + i * count, *by = base.parts[0] + here * c + at;
      if (base.channels[1]) by = base.parts[part] + here * count;
      if (x.scales) {
        normalize_pixel(from, count, x.scales + scales, x.shifts + scales, x.is_activated, room + at);
        from = room + at;
      }
      subtract(from, by, count, room + at);
    }
    return room;
  }
};

}  // namespace

extern "C" {

// What `edge_linear` quantizes: out (m, columns).
int edge_rows(int64_t threads, const float* x, int64_t m, const EdgeRows* how, int64_t columns, float* out) {
  return with_threads(threads, [&] {
    parallel_for(m, lines_of(columns), [&](int64_t i) {
      const float* row = row_of(x, i, columns, *how, out + i * columns);
      if (row != out + i * columns) std::copy_n(row, columns, out + i * columns);
    });
  });
}

// What `edge_conv` quantizes, or, if there is a `base`, the difference to this one image: out (batch, h, w, c), and the
// largest magnitude of each image, peaks (batch).
int edge_image_differences(int64_t threads, const EdgeImages* x, int64_t batch, int64_t h, int64_t width,
                           const EdgeImages* base, float* out, float* peaks) {
  return with_threads(threads, [&] {
    const int64_t c = x->c(), line = width * c;
    std::vector<float> lines(batch * h);
    parallel_for(batch * h, lines_of(line), [&](int64_t i) {
      float* to = out + i * line;
      if (base) {
        const Pixels pixels{*x, *base, h * width};
        for (int64_t pixel = 0; pixel < width; ++pixel) pixels(i * width + pixel, to + pixel * c);
      } else {
        const float* from = line_of(*x, i / h, i, width, to);
        if (from != to) std::copy_n(from, line, to);
      }
      lines[i] = largest(to, line);
    });
    for (int64_t image = 0; image < batch; ++image) peaks[image] = largest(lines.data() + image * h, h);
  });
}

// y (batch * pixels, rows) of a convolution of 1 x 1 on differences to one image, a scale a pixel: set or added.
int edge_pointwise_difference(int64_t threads, const EdgeImages* x, int64_t batch, int64_t pixels,
                              const EdgeImages* base, const EdgeWeights* w, int64_t is_added, float* y) {
  return with_threads(threads, [&] {
    multiply_rows<Byte>(batch * pixels, w->columns, &w, 1, BYTE_LEVELS, is_added, &y, &w->rows,
                        Pixels{*x, *base, pixels});
  });
}

// Pixels (count, c) as bytes: what they differ by from those of `base` (period, c), and its step (count).
int edge_hold(int64_t threads, const float* x, int64_t count, int64_t c, const float* base, int64_t period, int8_t* q,
              float* steps) {
  return with_threads(threads, [&] {
    parallel_for(count, lines_of(c), [&](int64_t i) {
      float* room = room_for<float>(c);
      subtract(x + i * c, base + i % period * c, c, room);
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
