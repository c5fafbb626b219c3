// Softmax attention that never holds the scores of all queries with all keys ("flash attention", Dao et al. 2022):
// scores are summed in integers, weights and values in float32.
//
// Queries and keys are quantized to 16 bits, a scale a row, such that a row's Euclidean norm is at most NORM: by Cauchy
// and Schwarz no sum of their products leaves 32 bits then. A panel is NR queries, one a lane; scores, largest scores
// and sums stay in their lane. One thread computes a query, in one order: the bits do not depend on the thread count.
#include "integer.h"

namespace {

constexpr float NORM = 46300;           // below the root of 2^31, also when up to 6,000 numbers have been rounded
constexpr int64_t KEYS = 48;            // scored before their values are mixed
constexpr int64_t PANELS = 8;           // of a task: keys and values read once into the nearest cache serve them all
constexpr int64_t KEY_BYTES = 2 << 20;  // of quantized keys at once
constexpr int CHANNELS = 5;             // of the output summed in registers; head sizes are multiples of 40 or 64

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
constexpr int NF = NR / LANES;  // vectors of a panel
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Bits __attribute__((vector_size(4 * LANES)));

struct Panel {
  Floats lanes[NF];
};

inline Floats all(float x) { return x - Floats{}; }

inline Floats fma(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__) && defined(__FMA__)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

// The larger one, b where one of them is not a number.
inline Floats larger(Floats a, Floats b) {
#if defined(__AVX512F__)
  return (Floats)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (Floats)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}

// 2^t for t <= 0 with a relative error of 2e-7, and 2^-100 below -100, where smaller ones would be slow. NaN stays NaN.
// A vector at a time each step, so that their chains of additions and multiplications run beside each other.
template <int N>
inline void power_of_two(Floats* t) {
  constexpr float ROUND = 0x1.8p23f + 127;  // adding it leaves a whole number, biased as an exponent, in the low bits
  constexpr float TERMS[] = {9.6705140e-3f, 5.5507991e-2f, 2.4022281e-1f, 6.9314699e-1f, 1};
  Floats y[N], rounded[N];
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) {
    t[i] = larger(all(-100), t[i]);
    rounded[i] = t[i] + ROUND;
  }
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) t[i] -= rounded[i] - ROUND, y[i] = all(1.3264815e-3f);
#pragma GCC unroll 8
  for (const float term : TERMS)
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) y[i] = fma(y[i], t[i], all(term));
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) t[i] = y[i] * (Floats)((Bits)rounded[i] << 23);
}

// Writes x / scale as integers and returns the scale, NaN if a number is not finite.
float quantize(const float* x, int64_t count, int16_t* out) {
  float squares = 0, most = 1e-18f;
#pragma omp simd reduction(+ : squares) reduction(max : most)
  for (int64_t k = 0; k < count; ++k) squares += x[k] * x[k], most = std::max(most, std::fabs(x[k]));
  const float scale = std::max(std::sqrt(squares) / NORM, most / 32767), inverse = 1 / scale;
#pragma omp simd
  for (int64_t k = 0; k < count; ++k) out[k] = int16_t(std::nearbyint(x[k] * inverse));
  return scale + squares * 0;
}

// A panel of queries on its way through the keys.
struct State {
  Panel scale, top, sum;        // of scores; largest score so far; sum of the weights relative to it
  std::vector<int16_t> queries;  // (steps, NR, PAIR)
  std::vector<Panel> mixed;      // (d): sum of the values so weighted
};

// Keys and values of one head, rows `pitch` apart in v and `length` in the quantized k.
struct Head {
  const int16_t* k;
  const float *scales, *v;
  int64_t length, pitch, d;
};

// Queries first, first + 1, ..., up to the last one, which is repeated after it.
void begin(State& state, const float* q, int64_t first, int64_t last, const Head& head, float scale) {
  thread_local std::vector<int16_t> row;
  row.resize(head.length), state.queries.resize(NR * head.length), state.mixed.assign(head.d, Panel{});
  state.sum = Panel{};
  for (int64_t i = 0; i < NR; ++i) {
    const float* from = q + std::min(first + i, last) * head.pitch;
    reinterpret_cast<float*>(&state.scale)[i] = scale * quantize(from, head.d, row.data());
    reinterpret_cast<float*>(&state.top)[i] = -INFINITY;
    int16_t* to = state.queries.data() + i * PAIR;
    for (int64_t c = 0; c < head.length; c += PAIR, to += NR * PAIR) std::memcpy(to, &row[c], sizeof(*to) * PAIR);
  }
}

// Makes weights of scores, relative to the largest so far; returns what weights until now are to be multiplied by.
Panel weigh(Panel* scores, int64_t count, State& state) {
  Panel most = scores[0], keep, total;
  for (int64_t k = 1; k < count; ++k)
#pragma GCC unroll 8
    for (int j = 0; j < NF; ++j) most.lanes[j] = larger(scores[k].lanes[j], most.lanes[j]);
  for (int j = 0; j < NF; ++j) {
    most.lanes[j] = larger(most.lanes[j] * state.scale.lanes[j], state.top.lanes[j]);
    keep.lanes[j] = state.top.lanes[j] - most.lanes[j];
  }
  power_of_two<NF>(keep.lanes);
  for (int j = 0; j < NF; ++j) total.lanes[j] = state.sum.lanes[j] * keep.lanes[j];
  for (int64_t k = 0; k < count; ++k) {
    Panel weights = scores[k];
#pragma GCC unroll 8
    for (int j = 0; j < NF; ++j) weights.lanes[j] = fma(weights.lanes[j], state.scale.lanes[j], -most.lanes[j]);
    power_of_two<NF>(weights.lanes);
#pragma GCC unroll 8
    for (int j = 0; j < NF; ++j) total.lanes[j] += weights.lanes[j];
    scores[k] = weights;
  }
  state.top = most, state.sum = total;
  return keep;
}

// mixed[r] = keep * mixed[r] + sum over keys of weights[key] * v[key * pitch + r], for R channels r.
template <int R>
__attribute__((noinline)) void mix(const float* v, int64_t pitch, const Panel* weights, int64_t keys, const Panel& keep,
                                   Panel* mixed) {
  Floats sums[R][NF];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < NF; ++j) sums[r][j] = mixed[r].lanes[j] * keep.lanes[j];
  for (int64_t key = 0; key < keys; ++key, v += pitch)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Floats value = all(v[r]);
#pragma GCC unroll 8
      for (int j = 0; j < NF; ++j) sums[r][j] = fma(value, weights[key].lanes[j], sums[r][j]);
    }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < NF; ++j) mixed[r].lanes[j] = sums[r][j];
}

// Takes the panel through keys first to first + count.
void advance(State& state, const Head& head, int64_t first, int64_t count) {
  Panel scores[KEYS + MR] = {};
  for (int64_t key = 0; key < count; key += MR) {
    const int16_t* rows[MR];
    float scales[MR];
    for (int i = 0; i < MR; ++i) {
      const int64_t at = first + std::min(key + i, count - 1);
      rows[i] = head.k + at * head.length, scales[i] = head.scales[at];
    }
    accumulate<MR>(rows, state.queries.data(), head.length / PAIR, [&](int i, int j, Sums sums) {
      store(sums, scales[i], reinterpret_cast<float*>(scores + key + i) + j * WIDTH);
    });
  }
  const Panel keep = weigh(scores, count, state);
  const float* v = head.v + first * head.pitch;
  int64_t c = 0;
  for (; c + CHANNELS <= head.d; c += CHANNELS)
    mix<CHANNELS>(v + c, head.pitch, scores, count, keep, &state.mixed[c]);
  for (; c < head.d; ++c) mix<1>(v + c, head.pitch, scores, count, keep, &state.mixed[c]);
}

void end(State& state, float* y, int64_t first, int64_t last, const Head& head) {
  const int64_t rows = std::min<int64_t>(NR, last - first + 1);
  for (int j = 0; j < NF; ++j) state.sum.lanes[j] = 1 / state.sum.lanes[j];
  for (int64_t c = 0; c < head.d; ++c) {
    Panel& mixed = state.mixed[c];
    for (int j = 0; j < NF; ++j) mixed.lanes[j] *= state.sum.lanes[j];
    const float* from = reinterpret_cast<const float*>(&mixed);
    float* to = y + first * head.pitch + c;
    for (int64_t i = 0; i < rows; ++i) to[i * head.pitch] = from[i];
  }
}

void attend(const float* q, const float* k, const float* v, int64_t batch, int64_t queries, int64_t keys, int64_t heads,
            int64_t d, float* y) {
  const int64_t length = ceil_div(d, PAIR) * PAIR, pitch = heads * d, pairs = batch * heads;
  const int64_t rows = PANELS * NR, tasks = ceil_div(queries, rows);
  const int64_t most = std::clamp<int64_t>(KEY_BYTES / (2 * keys * length), 1, pairs);
  const float scale = 1.44269504f / std::sqrt(float(d));  // e^x = 2^(x log2(e))
  std::vector<int16_t> integers(most * keys * length);
  std::vector<float> scales(most * keys);
  for (int64_t first = 0; first < pairs; first += most) {
    const int64_t some = std::min(most, pairs - first);
    const auto start = [&](int64_t pair, int64_t rows) {  // of a head in a tensor with so many rows a sample
      return (first + pair) / heads * rows * pitch + (first + pair) % heads * d;
    };
    parallel_for(some * keys, lines_of(d), [&](int64_t at) {
      const int64_t pair = at / keys, key = at % keys;
      scales[at] = quantize(k + start(pair, keys) + key * pitch, d, integers.data() + at * length);
    });
    parallel_for(some * tasks, 1, [&](int64_t task) {
      thread_local State states[PANELS];
      const int64_t pair = task / tasks, i = task % tasks;
      const Head head{integers.data() + pair * keys * length, scales.data() + pair * keys, v + start(pair, keys),
                      length, pitch, d};
      const int64_t at = start(pair, queries), top = i * rows, panels = std::min(PANELS, ceil_div(queries - top, NR));
      for (int64_t p = 0; p < panels; ++p) begin(states[p], q + at, top + p * NR, queries - 1, head, scale);
      for (int64_t key = 0; key < keys; key += KEYS)
        for (int64_t p = 0; p < panels; ++p) advance(states[p], head, key, std::min(KEYS, keys - key));
      for (int64_t p = 0; p < panels; ++p) end(states[p], y + at, top + p * NR, queries - 1, head);
    });
  }
}

}  // namespace

extern "C" {

// y = softmax(q k^T / sqrt(d)) v in every head: q, y (batch, queries, heads * d), k, v (batch, keys, heads * d) float.
int edge_attention(int64_t threads, const float* q, const float* k, const float* v, int64_t batch, int64_t queries,
                   int64_t keys, int64_t heads, int64_t d, float* y) {
  return with_threads(threads, [&] { attend(q, k, v, batch, queries, keys, heads, d, y); });
}

}  // extern "C"
