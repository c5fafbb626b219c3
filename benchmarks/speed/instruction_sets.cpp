// Runs the integer kernels on the cases of standard input and writes their outputs; see `instruction_sets.py`.
// With an argument, only says how many products a step this build makes.
#include "images.h"
#include "rows.h"

#include <cstdio>
#include <cstdlib>

extern "C" {
int64_t edge_keys_room(int64_t, int64_t, int64_t, int64_t);
int edge_keys(int64_t, const float*, const float*, int64_t, int64_t, int64_t, int64_t, char*);
int edge_attention(int64_t, const float*, char*, int64_t, int64_t, int64_t, int64_t, int64_t, float*);
int edge_linear(int64_t, const float*, int64_t, const EdgeRows*, int64_t, const EdgeWeights* const*, float, int64_t,
                float* const*, const int64_t*);
int edge_conv(int64_t, const EdgeImages*, int64_t, int64_t, int64_t, const int64_t*, const int64_t*, const int64_t*,
               const EdgeWeights*, float, int64_t, float*, int64_t);
int edge_winograd(int64_t, const EdgeImages*, int64_t, int64_t, int64_t, const int64_t*, int64_t, const EdgeWeights*,
                   float, float*, int64_t);
}

namespace {

constexpr int64_t BESIDE = 3;  // columns beside the outputs, which must stay as they are
constexpr float UNTOUCHED = 7;
constexpr int64_t ATTENTION = 3;
constexpr int64_t THREADS = 3;  // so that the work is cut into pieces

template <typename T>
std::vector<T> read(int64_t count) {
  std::vector<T> out(count);
  if (std::fread(out.data(), sizeof(T), count, stdin) != size_t(count)) std::exit(1);
  return out;
}

}  // namespace

int main(int count, char**) {
  if (count > 1) return std::printf("%d %d\n", WIDTH * PAIR, WIDTH * Products<Byte>::STEP) < 0;
  // The kind (1 linear, 0 convolution, 2 or 4 the side of Winograd's tiles, or ATTENTION), levels, rows, batch, height,
  // width, channels; then kernel, stride and padding; how many rows or pixels have biases of their own.
  int64_t s[14];
  while (std::fread(s, sizeof(s), 1, stdin) == 1) {
    if (s[0] == ATTENTION) {  // batch, queries, keys, heads, channels of a head
      const auto q = read<float>(s[1] * s[2] * s[4] * s[5]), k = read<float>(s[1] * s[3] * s[4] * s[5]);
      const auto v = read<float>(k.size());
      std::vector<float> y(q.size());
      std::vector<char> room(edge_keys_room(s[1], s[3], s[4], s[5]));
      edge_keys(THREADS, k.data(), v.data(), s[1], s[3], s[4], s[5], room.data());
      edge_attention(THREADS, q.data(), room.data(), s[1], s[2], s[3], s[4], s[5], y.data());
      std::fwrite(y.data(), sizeof(float), y.size(), stdout);
      continue;
    }
    const int64_t rows = s[2], batch = s[3], h = s[4], w = s[5], c = s[6];
    const int64_t *kernel = s + 7, *stride = s + 9, *padding = s + 11, pitch = rows + BESIDE;
    const int64_t ho = (h + 2 * padding[0] - kernel[0]) / stride[0] + 1;
    const int64_t wo = (w + 2 * padding[1] - kernel[1]) / stride[1] + 1;
    const auto x = read<float>(batch * h * w * c);
    const auto q = read<int8_t>(rows * kernel[0] * kernel[1] * c);
    const auto scale = read<float>(rows), bias = read<float>(rows * std::max<int64_t>(s[13], 1));
    std::vector<float> y(batch * ho * wo * pitch, UNTOUCHED);
    const EdgeRows plain{};
    const EdgeImages images{{x.data(), nullptr}, {c, 0}, nullptr, nullptr, nullptr, 0};
    const EdgeWeights weights{q.data(), nullptr, nullptr, scale.data(), bias.data(), rows, kernel[0] * kernel[1] * c, 1, s[13]};
    const EdgeWeights* const layer = &weights;
    float* const out = y.data();
    if (s[0] == 2 || s[0] == 4)
      edge_winograd(THREADS, &images, batch, h, w, padding, s[0], &weights, s[1], y.data(), pitch);
    else if (s[0] == 1)
      edge_linear(THREADS, x.data(), batch * h * w, &plain, 1, &layer, s[1], false, &out, &pitch);
    else
      edge_conv(THREADS, &images, batch, h, w, kernel, stride, padding, &weights, s[1], false, y.data(), pitch);
    std::fwrite(y.data(), sizeof(float), y.size(), stdout);
  }
}
