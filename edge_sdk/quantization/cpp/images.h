// What is done to an image before it is quantized: channels of two tensors joined, a group normalization, SiLU.
#pragma once

#include "floats.h"
#include "integer.h"

// Images (batch, h, w, channels) whose channels are those of one or two tensors. With scales they are normalized: a
// number times the scale of its image and channel plus the shift, and where `is_activated` the SiLU of that.
struct EdgeImages {
  const float* parts[2];
  int64_t channels[2];
  const float *scales, *shifts;  // (batch, c) or null
  const float* peaks;            // (batch), the largest magnitude then
  int64_t is_activated;

  int64_t c() const { return channels[0] + channels[1]; }
};

namespace {

inline Floats silu(Floats z) {
  const Floats size = larger(z, -z);
  Floats power[1] = {-1.44269504f * size};
  power_of_two<1>(power);
  return z * (z < 0 ? power[0] : all(1)) / (1 + power[0]);
}

// out = x * scale + shift, or the SiLU of it, for the channels of one pixel.
inline void normalize_pixel(const float* x, int64_t count, const float* scale, const float* shift, bool is_activated,
                            float* out) {
  for (int64_t k = 0; k < count; k += LANES) {
    const int64_t left = count - k;
    const Floats z = load_some(x + k, left) * load_some(scale + k, left) + load_some(shift + k, left);
    store_some(out + k, is_activated ? silu(z) : z, left);
  }
}

// A line of `width` pixels as it is quantized: where it is, or in `room`.
const float* line_of(const EdgeImages& x, int64_t image, int64_t line, int64_t width, float* room) {
  const int64_t c = x.c(), first = x.channels[0];
  if (!x.scales && first == c) return x.parts[0] + line * width * c;
  float* out = room;
  for (int64_t pixel = line * width; pixel < (line + 1) * width; ++pixel, out += c)
    for (int part = 0; part < 2; ++part) {
      const int64_t count = x.channels[part], at = part * first;
      const float* from = x.parts[part] + pixel * count;
      if (x.scales)
        normalize_pixel(from, count, x.scales + image * c + at, x.shifts + image * c + at, x.is_activated, out + at);
      else
        std::copy_n(from, count, out + at);
    }
  return room;
}

// The steps between two levels of `images` images of h lines from image b on.
std::vector<float> steps_of(const EdgeImages& x, int64_t b, int64_t images, int64_t h, int64_t width, float levels) {
  std::vector<float> peaks(images * h), steps(images);
  for (int64_t i = 0; i < images && x.peaks; ++i) steps[i] = x.peaks[b + i] / levels;
  if (x.peaks) return steps;
  parallel_for(images * h, lines_of(width * x.c()), [&](int64_t i) {
    for (int part = 0; part < 2; ++part) {
      const int64_t line = width * x.channels[part];
      const float most = largest(x.parts[part] + (b * h + i) * line, line);
      peaks[i] = part && !(most > peaks[i] || most != most) ? peaks[i] : most;
    }
  });
  for (int64_t i = 0; i < images; ++i) steps[i] = largest(peaks.data() + i * h, h) / levels;
  return steps;
}

// Lines of images from image b on as they are quantized: `count` of each from line `first` on, which may be outside, into
// (count, wide, c) with zeros around: `side` pixels on the left, the rest on the right.
struct Lines {
  int64_t h, width, c, first, count, side, wide;

  int64_t size() const { return count * wide * c; }
};

template <typename A>
void quantize_lines(const EdgeImages& x, int64_t b, const std::vector<float>& steps, const Lines& lines, A* out) {
  constexpr A NOTHING = Products<A>::SHIFT;
  const auto [h, width, c, first, count, side, wide] = lines;
  parallel_for(int64_t(steps.size()) * count, lines_of(wide * c), [&, h = h, width = width, c = c, first = first,
                                                                   count = count, side = side, wide = wide](int64_t i) {
    const int64_t image = i / count, y = first + i % count;
    A *line = out + i * wide * c, *inner = line + side * c, *end = inner + width * c;
    if (y < 0 || y >= h) {
      std::fill_n(line, wide * c, NOTHING);
    } else {
      const float* from = line_of(x, b + image, (b + image) * h + y, width, room_for<float>(width * c));
      std::fill(line, inner, NOTHING);
      quantize(from, width * c, steps[image], inner);
      std::fill(end, line + wide * c, NOTHING);
    }
  });
}

}  // namespace
