// Convolutions of 3 x 3 with stride 1 by Winograd's minimal filtering, in integers: the same sums as `edge_conv`.
//
// A tile of SIZE x SIZE outputs is made of P x P = (SIZE + 2)^2 products of transformed inputs and transformed weights:
// 2.25 (SIZE 2) or 4 (SIZE 4) times fewer multiplications. Lavin and Gray, "Fast Algorithms for Convolutional Neural
// Networks", CVPR 2016. The transforms there have fractions; here rows of the weights' transform are multiplied by 2 or
// 24 or what else makes them small whole numbers, and the outputs' transform makes up for it, so all sums are exact.
// Inputs are transformed a band of tiles at a time. Weights are transformed a panel of outputs and a block of channels at
// a time, by the thread that uses them. Sums are emptied into doubles that stay in the nearest cache, a few tiles at
// once; seldom, because the magnitudes of the inputs, which are summed as these are transformed, bound them.
#include "images.h"
#include "winograd.h"

namespace {

#if defined(__AVX512BW__)
constexpr int WORDS = 32;  // of a Vector
#else
constexpr int WORDS = 16;
#endif
constexpr int WIDE = WORDS / 4;  // doubles in as many bytes
typedef int16_t Vector __attribute__((vector_size(2 * WORDS)));
typedef int8_t Bytes __attribute__((vector_size(WORDS)));
typedef double Doubles __attribute__((vector_size(8 * WIDE)));
typedef float Narrow __attribute__((vector_size(4 * WIDE)));

template <typename V, typename T>
V read(const T* from) {
  V value;
  std::memcpy(&value, from, sizeof(V));
  return value;
}

template <typename V, typename T>
void write(T* to, V value) {
  std::memcpy(to, &value, sizeof(V));
}

constexpr int64_t BLOCK = 320;                  // channels whose transformed weights are there at once
constexpr int64_t TRANSFORMED_BYTES = 3 << 20;  // of transformed inputs at once
constexpr int64_t GROUP_TILES = 4 * MR;         // multiplied by a point's weights while these are in the nearest cache
constexpr int16_t UNIT_BITS = 5, ONE = 1;       // magnitudes are summed in units of 2^UNIT_BITS
constexpr int64_t APART = 32;                   // so that planes do not all start in the same set of a cache

int64_t rounded(int64_t count, int64_t step) { return ceil_div(count, step) * step; }

// Transformed inputs of some tiles: (blocks of channels, points, tiles, channels of the block). `sizes` (blocks, tiles,
// points) are what the magnitudes of a point's channels in a block sum up to, or a little more.
struct Tiles {
  int16_t* v;
  int32_t* sizes;
  int64_t count, channels, points;

  int32_t* sizes_of(int64_t channel, int64_t tile) const { return sizes + (channel / BLOCK * count + tile) * points; }

  int64_t width(int64_t channel) const { return std::min(BLOCK, rounded(channels - channel, WORDS)); }
  int64_t plane(int64_t channel) const { return count * width(channel) + APART; }
  int16_t* at(int64_t channel) const { return v + channel / BLOCK * points * (count * BLOCK + APART); }
  static int64_t bytes(int64_t count, int64_t channels, int64_t points) {
    return 2 * points * (count * rounded(channels, WORDS) + ceil_div(channels, BLOCK) * APART);
  }
};

// One tile whose first input is at `a`, lines of the padded image `pitch` apart.
template <int SIZE>
void transform_input(const int16_t* a, int64_t pitch, const Tiles& to, int64_t tile) {
  constexpr int P = SIZE + 2;
  for (int64_t block = 0; block < to.channels; block += BLOCK) {
    const int64_t width = to.width(block), plane = to.plane(block);
    int16_t* out = to.at(block) + tile * width;
    Vector sizes[P * P] = {};  // rounded up, at most BLOCK / WORDS times 2^15 / 2^UNIT_BITS
    for (int64_t c = 0; c < width; c += WORDS) {
      Vector d[P * P], rows[P * P];
#pragma GCC unroll 8
      for (int i = 0; i < P; ++i) {
#pragma GCC unroll 8
        for (int j = 0; j < P; ++j)
          d[j] = read<Vector>(a + i * pitch + j * to.channels + block + c);
        Transform<SIZE>::input(d, rows + i * P, 1);
      }
#pragma GCC unroll 8
      for (int j = 0; j < P; ++j) {
        Transform<SIZE>::input(rows + j, d + j, P);
#pragma GCC unroll 8
        for (int i = 0; i < P; ++i) {
          const Vector value = d[i * P + j];
          write(out + (i * P + j) * plane + c, value);
          sizes[i * P + j] += (((value < 0 ? -value : value) - ONE) >> UNIT_BITS) + ONE;
        }
      }
    }
    int32_t* const sums = to.sizes_of(block, tile);
    for (int i = 0; i < P * P; ++i) {
      int32_t sum = 0;
      for (int k = 0; k < WORDS; ++k) sum += sizes[i][k];
      sums[i] = sum << UNIT_BITS;
    }
  }
}

// `count` numbers of a panel, taps `apart` from each other, to as many of every point, points `plane` apart.
template <int SIZE>
void transform_weight(const int8_t* g, int64_t apart, int64_t count, int16_t* u, int64_t plane) {
  constexpr int P = SIZE + 2;
  for (int64_t k = 0; k < count; k += WORDS) {
    Vector taps[3], columns[3 * P], row[P];
#pragma GCC unroll 8
    for (int j = 0; j < 3; ++j) {
#pragma GCC unroll 8
      for (int i = 0; i < 3; ++i)
        taps[i] = __builtin_convertvector(read<Bytes>(g + (3 * i + j) * apart + k), Vector);
      Transform<SIZE>::weight(taps, columns + j, 3);
    }
#pragma GCC unroll 8
    for (int i = 0; i < P; ++i) {
      Transform<SIZE>::weight(columns + 3 * i, row, 1);
#pragma GCC unroll 8
      for (int j = 0; j < P; ++j) write(u + (i * P + j) * plane + k, row[j]);
    }
  }
}

// How many of `steps` steps of a point's products surely stay below 2^31, with weights down to -128: all, if the
// magnitudes of the inputs sum up to little enough.
template <int SIZE>
int64_t longest(int point, int64_t steps, int32_t size, float levels) {
  const int64_t *input = Transform<SIZE>::INPUT, *weight = Transform<SIZE>::WEIGHT;
  const int i = point / (SIZE + 2), j = point % (SIZE + 2);
  const double most = double(weight[i] * weight[j]) * 128, limit = 2147483647.0;
  if (size * most <= limit) return steps;
  return int64_t(limit / (double(input[i] * input[j]) * levels * most * PAIR));
}

// Sets the sums of `count` tiles, up to MR, `width` apart, to `steps` steps of theirs, or adds these.
template <bool ADDED, int ROWS = MR>
void sum_tiles(const int16_t* v, int64_t width, int64_t count, const int16_t* u, int64_t steps, double* sums) {
  if constexpr (ROWS > 1)
    if (count < ROWS) return sum_tiles<ADDED, ROWS - 1>(v, width, count, u, steps, sums);
  const int16_t* rows[ROWS];
  for (int i = 0; i < ROWS; ++i) rows[i] = v + i * width;
  accumulate<ROWS>(rows, u, steps, [&](int i, int j, Sums s) {
    (ADDED ? empty : widen)(s, sums + i * NR + j * WIDTH);
  });
}

// The outputs of a band of tiles, `across` a line and `tiles` an image: (rows, columns) pixels, `pitch` apart. An image
// after the first one has all its pixels in the band.
struct Outputs {
  float* y;
  const std::vector<float>& steps;  // of the activations of each image
  int64_t rows, columns, across, tiles, pitch;
  const float* own;  // biases of each pixel, `weights` numbers, or null
  int64_t weights;
};

// What outputs of a panel are multiplied by and what is added, for sums that are short or not.
struct Scales {
  double scales[NR] = {}, biases[NR] = {};
  float short_scales[NR] = {}, short_biases[NR] = {};
  bool is_short;

  Scales(const EdgeWeights& w, int64_t n, int64_t width, float levels) : is_short(::is_short(w.columns, levels)) {
    for (int64_t j = 0; j < width; ++j) {
      scales[j] = short_scales[j] = w.scale[n + j];
      if (w.bias && !w.period) biases[j] = short_biases[j] = w.bias[n + j];
    }
  }
};

// A tile of NR outputs from its sums, points `plane` apart: the first `width` go to y from channel n on.
template <int SIZE>
void write_tile(const double* m, int64_t plane, const Scales& by, int64_t tile, int64_t n, int64_t width,
                const Outputs& to) {
  constexpr int P = SIZE + 2;
  // 1 / 576 is so near a double, within 2^-54 of itself, that multiples of 576 become the right whole numbers again.
  constexpr double PART = 1.0 / (Transform<SIZE>::DIVISOR * Transform<SIZE>::DIVISOR);
  float y[SIZE][SIZE][NR];
  const int64_t image = tile / to.tiles, within = tile % to.tiles;
  const double step = to.steps[image];
  for (int j = 0; j < NR; j += WIDE) {
    Doubles columns[P * SIZE], point[P], out[SIZE];
    const Doubles scale = read<Doubles>(by.scales + j), bias = read<Doubles>(by.biases + j);
    const Narrow factor = read<Narrow>(by.short_scales + j) * to.steps[image];
    const Narrow short_bias = read<Narrow>(by.short_biases + j);
#pragma GCC unroll 8
    for (int i = 0; i < P; ++i) {
#pragma GCC unroll 8
      for (int k = 0; k < P; ++k) point[k] = read<Doubles>(m + (i * P + k) * plane + j);
      Transform<SIZE>::output(point, columns + i * SIZE, 1);
    }
#pragma GCC unroll 8
    for (int k = 0; k < SIZE; ++k) {
      Transform<SIZE>::output(columns + k, out, SIZE);
#pragma GCC unroll 8
      for (int i = 0; i < SIZE; ++i) {
        const Doubles sum = out[i] * PART;
        write(y[i][k] + j, by.is_short ? __builtin_convertvector(sum, Narrow) * factor + short_bias
                                       : __builtin_convertvector(sum * step * scale + bias, Narrow));
      }
    }
  }
  const int64_t top = within / to.across * SIZE, left = within % to.across * SIZE;
  float* const start = to.y + image * to.rows * to.columns * to.pitch + n;
  for (int64_t i = 0; i < SIZE && top + i < to.rows; ++i)
    for (int64_t k = 0; k < SIZE && left + k < to.columns; ++k) {
      const int64_t at = (top + i) * to.columns + left + k;
      if (to.own) {
        const float* const own = to.own + at * to.weights + n;
#pragma omp simd
        for (int64_t j = 0; j < width; ++j) y[i][k][j] += own[j];
      }
      float* const pixel = start + at * to.pitch;
      if (width == NR)
        std::memcpy(pixel, y[i][k], sizeof(y[i][k]));  // of a size that the compiler knows
      else
        std::copy_n(y[i][k], width, pixel);
    }
}

// Tiles t0..t1 of a block of channels times its weights, point by point: the sums m are set by the first block, and
// later ones are added.
template <int SIZE>
void multiply_block(const Tiles& tiles, int64_t t0, int64_t t1, int64_t block, const int16_t* u, int64_t u_plane,
                    float levels, double* m, int64_t m_plane) {
  constexpr int POINTS = (SIZE + 2) * (SIZE + 2);
  const int64_t steps = ceil_div(std::min(BLOCK, tiles.channels - block), PAIR), wide = tiles.width(block);
  int32_t sizes[POINTS] = {};
  for (int64_t t = t0; t < t1; ++t)
    for (int i = 0; i < POINTS; ++i) sizes[i] = std::max(sizes[i], tiles.sizes_of(block, t)[i]);
  for (int i = 0; i < POINTS; ++i) {
    const int64_t pieces = ceil_div(steps, longest<SIZE>(i, steps, sizes[i], levels)), piece = ceil_div(steps, pieces);
    const int16_t* v = tiles.at(block) + i * tiles.plane(block);
    for (int64_t t = t0; t < t1; t += MR) {
      double* const sums = m + i * m_plane + (t - t0) * NR;
      for (int64_t done = 0; done < steps; done += piece)
        (block + done ? sum_tiles<true> : sum_tiles<false>)(v + t * wide + done * PAIR, wide, t1 - t,
                                                            u + i * u_plane + done * NR * PAIR,
                                                            std::min(piece, steps - done), sums);
    }
  }
}

// Tiles t0..t1 times the weight rows n..n + NR. Where channels are one block, only a group of tiles has sums at once.
template <int SIZE>
void multiply(const Tiles& tiles, int64_t t0, int64_t t1, const EdgeWeights& w, int64_t n, float levels,
              const Outputs& to) {
  constexpr int P = SIZE + 2;
  const int64_t width = std::min<int64_t>(NR, w.rows - n), apart = ceil_div(tiles.channels, PAIR) * NR * PAIR;
  const int64_t held = tiles.channels <= BLOCK ? std::min(GROUP_TILES, t1 - t0) : t1 - t0;  // tiles with sums
  const int64_t u_plane = BLOCK * NR + APART, m_plane = held * NR + APART;
  const int64_t panel_bytes = rounded(9 * apart + WORDS, 64);
  int8_t* panel = room_for<int8_t>(panel_bytes + 2 * (P * P * u_plane + WORDS));
  int16_t* u = reinterpret_cast<int16_t*>(panel + panel_bytes);
  double* m = room_for<double>(P * P * m_plane);
  const Scales scales(w, n, width, levels);
  pack<PAIR>(w, n, 9, panel);
  for (int64_t block = 0; block < tiles.channels; block += BLOCK) {
    const int64_t steps = ceil_div(std::min(BLOCK, tiles.channels - block), PAIR);
    transform_weight<SIZE>(panel + block * NR, apart, steps * NR * PAIR, u, u_plane);
    for (int64_t t = t0; t < t1; t += GROUP_TILES) {
      const int64_t end = std::min(t + GROUP_TILES, t1);
      double* const sums = m + (held == t1 - t0 ? t - t0 : 0) * NR;
      multiply_block<SIZE>(tiles, t, end, block, u, u_plane, levels, sums, m_plane);
      if (block + BLOCK >= tiles.channels)
        for (int64_t i = t; i < end; ++i) write_tile<SIZE>(sums + (i - t) * NR, m_plane, scales, i, n, width, to);
    }
  }
}

template <int SIZE>
void convolve(const EdgeImages& x, int64_t batch, int64_t h, int64_t width, const int64_t* padding,
              const EdgeWeights& w, float levels, float* y, int64_t pitch) {
  const int64_t c = x.c();
  constexpr int POINTS = (SIZE + 2) * (SIZE + 2);
  const int64_t ho = h + 2 * padding[0] - 2, wo = width + 2 * padding[1] - 2;
  const int64_t across = ceil_div(wo, SIZE), down = ceil_div(ho, SIZE), wide = across * SIZE + 2;
  const int64_t most = std::clamp<int64_t>(TRANSFORMED_BYTES / Tiles::bytes(across, c, POINTS), 1, down);
  const int64_t panels = ceil_div(w.rows, NR);
  const int64_t size = (most * SIZE + 2) * wide * c;
  const int64_t all = most < down ? 1 : std::clamp<int64_t>(TRANSFORMED_BYTES / Tiles::bytes(most * across, c, POINTS), 1, batch);
  const int64_t room = Tiles::bytes(all * most * across, c, POINTS) / 2;
  int16_t* v = room_for<int16_t>(room + all * size + WORDS);
  int16_t* a = v + room;
  int32_t* sizes = room_for<int32_t>(all * most * across * POINTS * ceil_div(c, BLOCK));
  for (int64_t b = 0; b < batch; b += all) {
    const int64_t images = std::min(all, batch - b);
    const auto steps = steps_of(x, b, images, h, width, levels);
    for (int64_t top = 0; top < down; top += most) {
      const int64_t count = std::min(most, down - top), each = count * across;
      const Lines lines{h, width, c, top * SIZE - padding[0], count * SIZE + 2, padding[1], wide};
      quantize_lines(x, b, steps, lines, a);
      const Tiles tiles{v, sizes, images * each, c, POINTS};
      parallel_for(tiles.count, lines_of(POINTS * c), [&](int64_t t) {
        const int64_t tile = t % each, corner = tile / across * SIZE * wide + tile % across * SIZE;
        transform_input<SIZE>(a + t / each * lines.size() + corner * c, wide * c, tiles, t);
      });
      const float* own = w.period ? w.bias + top * SIZE * wo * w.rows : nullptr;
      const Outputs to{y + (b * ho + top * SIZE) * wo * pitch, steps, ho - top * SIZE, wo, across, each, pitch, own,
                       w.rows};
      const int64_t tasks = std::min(ceil_div(wanted_tasks(), panels), ceil_div(tiles.count, 8 * MR));
      const int64_t part = rounded(ceil_div(tiles.count, tasks), MR);
      parallel_for(ceil_div(tiles.count, part) * panels, 1, [&](int64_t task) {
        const int64_t t = task / panels * part;
        multiply<SIZE>(tiles, t, std::min(tiles.count, t + part), w, task % panels * NR, levels, to);
      });
    }
  }
}

}  // namespace

extern "C" {

// As `edge_conv`, for 3 x 3 and stride 1, in tiles of `size` x `size` outputs: 2 up to 8191 levels, 4 up to 327. Biases have
// no period, or, where sums are short, one of an image.
int edge_winograd(int64_t threads, const EdgeImages* x, int64_t batch, int64_t h, int64_t width, const int64_t* padding,
                  int64_t size, const EdgeWeights* w, float levels, float* y, int64_t pitch) {
  return with_threads(threads, [&] {
    (size == 4 ? convolve<4> : convolve<2>)(*x, batch, h, width, padding, *w, levels, y, pitch);
  });
}

}  // extern "C"
