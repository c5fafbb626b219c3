// How many products a second one core can add up in registers, with the instructions that the kernels use.
#include <cstdio>
#include <ctime>

#include "instructions.h"

namespace {

constexpr int SUMS = MR * NV, WINDOW = 100'000, WINDOWS = 100;

// The compiler cannot know what the value is: no product is computed ahead of time or left out.
template <typename T>
inline void keep(T& value) {
#if defined(__AVX2__)
  asm volatile("" : "+v"(value));
#elif defined(__aarch64__)
  asm volatile("" : "+w"(value));
#else
  asm volatile("" : "+r"(value));
#endif
}
#if defined(__aarch64__)
inline void keep(Sums& sums) { keep(sums.val[0]), keep(sums.val[1]); }
#endif

double seconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec + 1e-9 * time.tv_nsec;
}

// Prints the products a second of the quickest window: others' work on the machine only slows one down.
template <typename A>
void measure(const char* name) {
  static A activations[64];
  static int8_t weights[128];
  asm volatile("" : : "r"(activations), "r"(weights) : "memory");  // they may hold anything now
  auto a = Products<A>::spread_row(activations);
  const auto w = Products<A>::load_weights(weights);
  double quickest = 1e9;
  for (int window = 0; window < WINDOWS; ++window) {
    Sums sums[SUMS];
    for (auto& sum : sums) sum = zero();
    const double begun = seconds();
    for (int k = 0; k < WINDOW; ++k)
#pragma GCC unroll 32
      for (int i = 0; i < SUMS; ++i) {
        keep(a);
        sums[i] = Products<A>::add_products(sums[i], a, w);
        keep(sums[i]);
      }
    for (auto& sum : sums) keep(sum);
    const double taken = seconds() - begun;
    if (taken < quickest) quickest = taken;
  }
  std::printf("%s %.6g\n", name, double(WINDOW) * SUMS * WIDTH * Products<A>::STEP / quickest);
}

}  // namespace

int main() {
  measure<int16_t>("16");
  measure<Byte>("8");
}
