// A group normalization as a scale and a shift for every channel of an image, and how large numbers become.
#include "images.h"

namespace {

// Of the numbers of a channel.
struct Channel {
  double sum = 0, squares = 0;
  float least = INFINITY, most = -INFINITY;
};

constexpr int64_t TOGETHER = 64;  // channels that are read together

// Channels `first` to first + count of an image of c channels.
void collect(const float* x, int64_t pixels, int64_t c, int64_t first, int64_t count, Channel* out) {
  double sums[TOGETHER] = {}, squares[TOGETHER] = {};
  float least[TOGETHER], most[TOGETHER];
  std::copy_n(x + first, count, least), std::copy_n(x + first, count, most);
  x += first;
  for (int64_t pixel = 0; pixel < pixels; ++pixel, x += c)
#pragma omp simd
    for (int64_t k = 0; k < count; ++k) {
      const double wide = x[k];
      sums[k] += wide, squares[k] += wide * wide;
      least[k] = std::min(least[k], x[k]), most[k] = std::max(most[k], x[k]);
    }
  for (int64_t k = 0; k < count; ++k) out[k] = {sums[k], squares[k], least[k], most[k]};
}

// The largest magnitude of SiLU between two numbers, or a little more: it has a minimum of -0.2785 at -1.2785.
float activated_peak(float least, float most) {
  const auto silu = [](float z) { return std::fabs(z / (1 + std::exp(-z))); };
  const float below = least < -1.2784645f ? std::max(0.27846455f, most < 0 ? silu(most) : 0) : silu(least);
  return std::max(below, silu(std::max(most, -1.2784645f)));
}

}  // namespace

extern "C" {

// Writes scales, shifts (batch, c) and peaks (batch) for the parts and channels of `x`, with groups of neighbours.
// `offsets` (batch, c) or null are added to all numbers of a channel first.
int edge_group_norm(int64_t threads, const EdgeImages* x, int64_t batch, int64_t pixels, int64_t groups,
                    const float* weight, const float* bias, float epsilon, const float* offsets, float* scales,
                    float* shifts, float* peaks) {
  return with_threads(threads, [&] {
    const int64_t c = x->c(), size = c / groups;
    std::vector<Channel> channels(batch * c);
    for (int part = 0; part < 2; ++part) {
      const int64_t own = x->channels[part], blocks = ceil_div(own, TOGETHER);
      parallel_for(batch * blocks, lines_of(pixels * TOGETHER), [&](int64_t at) {
        const int64_t image = at / blocks, first = at % blocks * TOGETHER;
        collect(x->parts[part] + image * pixels * own, pixels, own, first, std::min(TOGETHER, own - first),
                channels.data() + image * c + part * x->channels[0] + first);
      });
    }
    for (int64_t image = 0; image < batch; ++image) {
      float least = INFINITY, most = -INFINITY, finite = 0;
      for (int64_t first = image * c; first < (image + 1) * c; first += size) {
        double sum = 0, squares = 0;
        for (int64_t k = first; k < first + size; ++k) {
          Channel& channel = channels[k];
          const float offset = offsets ? offsets[k] : 0;
          channel.squares += 2 * offset * channel.sum + double(pixels) * offset * offset;
          channel.sum += double(pixels) * offset, channel.least += offset, channel.most += offset;
          sum += channel.sum, squares += channel.squares;
        }
        const double mean = sum / double(size * pixels);
        const double scale = 1 / std::sqrt(std::max(squares / double(size * pixels) - mean * mean, 0.0) + epsilon);
        for (int64_t k = first; k < first + size; ++k) {
          const float offset = offsets ? offsets[k] : 0, shift = bias[k % c] - float(mean * scale) * weight[k % c];
          scales[k] = float(scale) * weight[k % c];
          shifts[k] = shift + offset * scales[k];
          const float one = channels[k].least * scales[k] + shift, other = channels[k].most * scales[k] + shift;
          least = std::min({least, one, other}), most = std::max({most, one, other});
          finite += scales[k] * 0 + shifts[k] * 0;
        }
      }
      const float peak = x->is_activated ? activated_peak(least, most) : std::max(std::fabs(least), std::fabs(most));
      peaks[image] = std::max(peak, 1e-12f) + finite;
    }
  });
}

}  // extern "C"
