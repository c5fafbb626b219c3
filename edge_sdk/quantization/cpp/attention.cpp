// Softmax attention that never holds the scores of all queries with all keys ("flash attention", Dao et al. 2022):
// scores are summed in integers, and so are weights times values, a few keys at a time.
//
// Queries and keys are quantized to 16 bits, a scale a row, such that a row's Euclidean norm is at most NORM: by Cauchy
// and Schwarz no sum of their products leaves 32 bits then. Values have a scale a channel. Weights have a scale a query
// and KEYS keys, the largest one with which no sum leaves 32 bits: a flat softmax has many small roundings, which cancel.
// A panel is NR queries, one a lane; scores, largest scores and sums stay in their lane. One thread computes a query, in
// one order: the bits do not depend on the thread count.
#include "floats.h"
#include "integer.h"

namespace {

constexpr float NORM = 46300;           // below the root of 2^31, also when up to 6,000 numbers have been rounded
constexpr int64_t KEYS = 48;            // scored before their values are mixed
constexpr int64_t PANELS = 8;           // of a task: keys and values read once into the nearest cache serve them all
constexpr float VALUE = 16383;          // largest quantized value
constexpr float WEIGHT = 32767;         // largest quantized weight
constexpr float WEIGHTS = 131024;       // most that a query's weights sum up to: 2^31 / VALUE, half a unit a key less

constexpr int NF = NR / LANES;  // vectors of a panel

struct Panel {
  Floats lanes[NF];
};

// Writes ROWS rows of `count` numbers as integers and their scales, NaN where a number is not finite. The rows' chains of
// additions run beside each other.
template <int ROWS>
void quantize_rows(const float* const* x, int64_t count, int16_t* const* out, float* scales) {
  const int64_t whole = count / LANES * LANES;
  Floats squares[ROWS] = {}, most[ROWS];
#pragma GCC unroll 8
  for (int i = 0; i < ROWS; ++i) most[i] = all(1e-18f);
  for (int64_t k = 0; k < whole; k += LANES)
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i) {
      const Floats value = load_some(x[i] + k, LANES);
      squares[i] += value * value, most[i] = larger(larger(value, -value), most[i]);
    }
  float sums[ROWS] = {}, peaks[ROWS];
  for (int i = 0; i < ROWS; ++i) peaks[i] = 1e-18f, sums[i] = squares[i][0];
  for (int64_t k = whole; k < count; ++k)
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i) sums[i] += x[i][k] * x[i][k], peaks[i] = std::max(peaks[i], std::fabs(x[i][k]));
#pragma GCC unroll 16
  for (int lane = 0; lane < LANES; ++lane)
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i) {
      if (lane) sums[i] += squares[i][lane];
      peaks[i] = std::max(peaks[i], most[i][lane]);
    }
  for (int i = 0; i < ROWS; ++i) {
    const float scale = std::max(std::sqrt(sums[i]) / NORM, peaks[i] / 32767), inverse = 1 / scale;
    scales[i] = scale + sums[i] * 0;
    const auto write = [&, i](int64_t k) { out[i][k] = int16_t(std::nearbyint(x[i][k] * inverse)); };
    // The last vector may repeat what the one before it wrote.
    for (int64_t k = 0; k < count && whole; k += LANES)
#pragma omp simd
      for (int lane = 0; lane < LANES; ++lane) write(std::min(k, count - LANES) + lane);
    for (int64_t k = 0; k < count && !whole; ++k) write(k);
  }
}

// Writes d channels of `count` rows, `pitch` apart, as integers, (d, KEYS), zeros after the last row.
void quantize_values(const float* x, int64_t pitch, int64_t count, int64_t d, const float* scales, int16_t* out) {
  int16_t* rows = room_for<int16_t>(d * KEYS);
  for (int64_t key = 0; key < count; ++key)
#pragma omp simd
    for (int64_t c = 0; c < d; ++c) rows[key * d + c] = int16_t(std::nearbyint(x[key * pitch + c] / scales[c]));
  std::fill(rows + count * d, rows + KEYS * d, int16_t(0));
  for (int64_t c = 0; c < d; ++c, out += KEYS)
    for (int64_t key = 0; key < KEYS; ++key) out[key] = rows[key * d + c];
}

// The scales of d channels of `count` rows, `pitch` apart; NaN where a number is not finite.
void scale_values(const float* x, int64_t pitch, int64_t count, int64_t d, float* scales) {
  thread_local std::vector<float> finite;
  finite.assign(d, 0);
  std::fill_n(scales, d, 1e-18f);
  for (int64_t key = 0; key < count; ++key, x += pitch)
#pragma omp simd
    for (int64_t c = 0; c < d; ++c) scales[c] = std::max(scales[c], std::fabs(x[c])), finite[c] += x[c] * 0;
  for (int64_t c = 0; c < d; ++c) scales[c] = scales[c] / VALUE + finite[c];
}

// A panel of queries on its way through the keys.
struct State {
  Panel scale, top, sum;        // of scores; largest score so far; sum of the weights relative to it
  std::vector<int16_t> queries;  // (steps, NR, PAIR)
  std::vector<Panel> mixed;      // (d): sum of the values so weighted
};

// Quantized keys, (keys, length), and values, (keys / KEYS, d, KEYS), of one head, with the scales of each.
struct Head {
  int16_t *k, *v;
  float *key_scales, *value_scales;
  int64_t length, pitch, d;
};

// Queries first, first + 1, ..., up to the last one, which is repeated after it.
void begin(State& state, const float* q, int64_t first, int64_t last, const Head& head, float scale) {
  constexpr int ROWS = NR < 8 ? NR : 8;
  int16_t* room = room_for<int16_t>(ROWS * head.length);
  state.queries.resize(NR * head.length), state.mixed.assign(head.d, Panel{});
  state.sum = Panel{};
  for (int i = 0; i < NR; i += ROWS) {
    const float* from[ROWS];
    int16_t* rows[ROWS];
    float scales[ROWS];
    for (int j = 0; j < ROWS; ++j) {
      from[j] = q + std::min(first + i + j, last) * head.pitch, rows[j] = room + j * head.length;
      rows[j][head.length - 1] = 0;
    }
    quantize_rows<ROWS>(from, head.d, rows, scales);
    for (int j = 0; j < ROWS; ++j) {
      reinterpret_cast<float*>(&state.scale)[i + j] = scale * scales[j];
      reinterpret_cast<float*>(&state.top)[i + j] = -INFINITY;
      int16_t* to = state.queries.data() + (i + j) * PAIR;
      for (int64_t c = 0; c < head.length; c += PAIR, to += NR * PAIR) std::memcpy(to, rows[j] + c, sizeof(*to) * PAIR);
    }
  }
}

// What sums until now and those of the keys at hand are to be multiplied by.
struct Shares {
  Panel before, now;
};

// Two weights after one another as the bits of a lane, or one.
inline void write_weights(Bits first, Bits second, int16_t* out) {
  if constexpr (PAIR == 2) {
    const Bits both = (first & 0xffff) | second << 16;
    std::memcpy(out, &both, sizeof(both));
  } else {
    for (int lane = 0; lane < LANES; ++lane) out[lane] = int16_t(first[lane]), out[NR + lane] = int16_t(second[lane]);
  }
}

// Makes weights of scores, (count / PAIR, NR, PAIR) whole numbers, relative to the largest of these scores. `count` is
// even; scores that there are not are -infinity.
Shares weigh(Panel* scores, int64_t count, int16_t* weights, State& state) {
  constexpr float ROUND = 0x1.8p23f;  // adding it leaves a whole number in the low bits
  Panel most = scores[0], scale;
  Shares shares;
  for (int64_t k = 1; k < count; ++k)
#pragma GCC unroll 8
    for (int j = 0; j < NF; ++j) most.lanes[j] = larger(scores[k].lanes[j], most.lanes[j]);
  Panel total = {};
  for (int j = 0; j < NF; ++j) most.lanes[j] *= state.scale.lanes[j];
  for (int64_t k = 0; k < count; ++k) {
    Panel weights = scores[k];
#pragma GCC unroll 8
    for (int j = 0; j < NF; ++j)  // rounded as the largest one was, so that no weight is above 1
      weights.lanes[j] = weights.lanes[j] * state.scale.lanes[j] - most.lanes[j];
    power_of_two<NF>(weights.lanes);
#pragma GCC unroll 8
    for (int j = 0; j < NF; ++j) total.lanes[j] += weights.lanes[j];
    scores[k] = weights;
  }
  for (int j = 0; j < NF; ++j) {
    const Floats top = larger(most.lanes[j], state.top.lanes[j]);
    scale.lanes[j] = -larger(all(-WEIGHT), -(WEIGHTS / total.lanes[j]));  // NaN stays NaN
    shares.before.lanes[j] = state.top.lanes[j] - top, shares.now.lanes[j] = most.lanes[j] - top;
    state.top.lanes[j] = top;
  }
  Bits sums[NF] = {};
  for (int64_t k = 0; k < count; k += 2, weights += 2 * NR)
#pragma GCC unroll 8
    for (int j = 0; j < NF; ++j) {
      const Bits first = (Bits)fma(scores[k].lanes[j], scale.lanes[j], all(ROUND));
      const Bits second = (Bits)fma(scores[k + 1].lanes[j], scale.lanes[j], all(ROUND));
      sums[j] += (first & 0xffff) + (second & 0xffff);
      write_weights(first, second, weights + j * LANES * PAIR);
    }
  power_of_two<NF>(shares.before.lanes), power_of_two<NF>(shares.now.lanes);
  for (int j = 0; j < NF; ++j) {
    shares.now.lanes[j] /= scale.lanes[j];
    const Floats sum = __builtin_convertvector(sums[j], Floats);
    state.sum.lanes[j] = state.sum.lanes[j] * shares.before.lanes[j] + sum * shares.now.lanes[j];
  }
  return shares;
}

// Adds ROWS channels, or less, of the values so weighted to their sums.
template <int ROWS = MR>
void mix(const int16_t* v, int64_t channels, const int16_t* weights, int64_t steps, const Shares& shares, Panel* mixed) {
  if constexpr (ROWS > 1)
    if (channels < ROWS) return mix<ROWS - 1>(v, channels, weights, steps, shares, mixed);
  const int16_t* rows[ROWS];
  for (int i = 0; i < ROWS; ++i) rows[i] = v + i * KEYS;
  const auto *before = reinterpret_cast<const float*>(&shares.before), *now = reinterpret_cast<const float*>(&shares.now);
  accumulate<ROWS>(rows, weights, steps, [&](int i, int j, Sums sums) {
    add_share(sums, before + j * WIDTH, now + j * WIDTH, reinterpret_cast<float*>(mixed + i) + j * WIDTH);
  });
}

// Takes the panel through keys first to first + count.
void advance(State& state, const Head& head, int64_t first, int64_t count) {
  Panel scores[KEYS + MR];
  int16_t weights[KEYS * NR];
  for (int64_t key = 0; key < count; key += MR) {
    const int16_t* rows[MR];
    float scales[MR];
    for (int i = 0; i < MR; ++i) {
      const int64_t at = first + std::min(key + i, count - 1);
      rows[i] = head.k + at * head.length, scales[i] = head.key_scales[at];
    }
    accumulate<MR>(rows, state.queries.data(), head.length / PAIR, [&](int i, int j, Sums sums) {
      store(sums, scales[i], reinterpret_cast<float*>(scores + key + i) + j * WIDTH);
    });
  }
  if (count % 2)
    for (int j = 0; j < NF; ++j) scores[count].lanes[j] = all(-INFINITY);
  const Shares shares = weigh(scores, count + count % 2, weights, state);
  const int16_t* v = head.v + first * head.d;
  for (int64_t c = 0; c < head.d; c += MR)
    mix(v + c * KEYS, head.d - c, weights, ceil_div(count, PAIR), shares, &state.mixed[c]);
}

void end(State& state, float* y, int64_t first, int64_t last, const Head& head) {
  const int64_t rows = std::min<int64_t>(NR, last - first + 1);
  for (int j = 0; j < NF; ++j) state.sum.lanes[j] = 1 / state.sum.lanes[j];
  for (int64_t c = 0; c < head.d; ++c) {
    Panel& mixed = state.mixed[c];
    for (int j = 0; j < NF; ++j) mixed.lanes[j] *= state.sum.lanes[j] * head.value_scales[c];
  }
  const float* from = reinterpret_cast<const float*>(state.mixed.data());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t c = 0; c < head.d; ++c) y[(first + i) * head.pitch + c] = from[c * NR + i];
}

// Keys and values as integers, and where all of them lie in a room that the caller has.
struct Room {
  int64_t pairs, keys, length, d;  // pairs of a sample and a head

  int64_t pieces() const { return ceil_div(keys, KEYS); }
  int64_t key_scales() const { return 0; }
  int64_t value_scales() const { return key_scales() + 4 * pairs * keys; }
  int64_t k() const { return value_scales() + 4 * pairs * d; }
  int64_t v() const { return k() + 2 * pairs * keys * length; }
  int64_t bytes() const { return v() + 2 * pairs * pieces() * KEYS * d; }
  Head head(char* room, int64_t pair, int64_t pitch) const {
    return {reinterpret_cast<int16_t*>(room + k()) + pair * keys * length,
            reinterpret_cast<int16_t*>(room + v()) + pair * pieces() * KEYS * d,
            reinterpret_cast<float*>(room + key_scales()) + pair * keys,
            reinterpret_cast<float*>(room + value_scales()) + pair * d,
            length,
            pitch,
            d};
  }
};

Room room_of(int64_t batch, int64_t keys, int64_t heads, int64_t d) {
  return {batch * heads, keys, ceil_div(d, PAIR) * PAIR, d};
}

void prepare(const float* k, const float* v, int64_t batch, int64_t keys, int64_t heads, int64_t d, char* out) {
  const Room room = room_of(batch, keys, heads, d);
  const int64_t pitch = heads * d, pieces = room.pieces();
  // Heads in turn, as they lie in memory.
  parallel_for(room.pairs * keys, lines_of(d), [&](int64_t at) {
    const int64_t sample = at / (heads * keys), key = at / heads % keys, pair = sample * heads + at % heads;
    const Head head = room.head(out, pair, pitch);
    int16_t* to = head.k + key * room.length;
    const float* from = k + at * d;
    quantize_rows<1>(&from, d, &to, head.key_scales + key);
    std::fill(to + d, to + room.length, int16_t(0));
  });
  parallel_for(batch, lines_of(keys * pitch), [&](int64_t sample) {
    scale_values(v + sample * keys * pitch, pitch, keys, pitch, room.head(out, sample * heads, pitch).value_scales);
  });
  parallel_for(room.pairs * pieces, lines_of(KEYS * d), [&](int64_t at) {
    const int64_t sample = at / (heads * pieces), key = at / heads % pieces * KEYS, pair = sample * heads + at % heads;
    const Head head = room.head(out, pair, pitch);
    quantize_values(v + (sample * keys + key) * pitch + at % heads * d, pitch, std::min(KEYS, keys - key), d,
                    head.value_scales, head.v + key * d);
  });
}

void attend(const float* q, char* prepared, int64_t batch, int64_t queries, int64_t keys, int64_t heads, int64_t d,
            float* y) {
  const Room room = room_of(batch, keys, heads, d);
  const int64_t pitch = heads * d, rows = PANELS * NR, tasks = ceil_div(queries, rows);
  const float scale = 1.44269504f / std::sqrt(float(d));  // e^x = 2^(x log2(e))
  parallel_for(room.pairs * tasks, 1, [&](int64_t task) {
    thread_local State states[PANELS];
    const int64_t pair = task / tasks, i = task % tasks;
    const Head head = room.head(prepared, pair, pitch);
    const int64_t at = pair / heads * queries * pitch + pair % heads * d, top = i * rows;
    const int64_t panels = std::min(PANELS, ceil_div(queries - top, NR));
    for (int64_t p = 0; p < panels; ++p) begin(states[p], q + at, top + p * NR, queries - 1, head, scale);
    for (int64_t key = 0; key < keys; key += KEYS)
      for (int64_t p = 0; p < panels; ++p) advance(states[p], head, key, std::min(KEYS, keys - key));
    for (int64_t p = 0; p < panels; ++p) end(states[p], y + at, top + p * NR, queries - 1, head);
  });
}

}  // namespace

extern "C" {

// How many bytes `edge_keys` writes.
int64_t edge_keys_room(int64_t batch, int64_t keys, int64_t heads, int64_t d) {
  return room_of(batch, keys, heads, d).bytes();
}

// Keys and values, k, v (batch, keys, heads * d) float, as integers into `room`.
int edge_keys(int64_t threads, const float* k, const float* v, int64_t batch, int64_t keys, int64_t heads, int64_t d,
              char* room) {
  return with_threads(threads, [&] { prepare(k, v, batch, keys, heads, d, room); });
}

// y = softmax(q k^T / sqrt(d)) v in every head: q, y (batch, queries, heads * d) float, k and v as `edge_keys` has them.
int edge_attention(int64_t threads, const float* q, char* room, int64_t batch, int64_t queries, int64_t keys,
                   int64_t heads, int64_t d, float* y) {
  return with_threads(threads, [&] { attend(q, room, batch, queries, keys, heads, d, y); });
}

}  // extern "C"
