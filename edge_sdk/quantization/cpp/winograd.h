// Winograd's transforms for tiles of 2 x 2 and 4 x 4 outputs of a 3 x 3 convolution, in whole numbers.
#pragma once

#include <cstdint>

namespace {

// The transforms along one axis; two of them make the one of a tile. Outputs are multiplied by DIVISOR. INPUT and WEIGHT
// are how many times larger each transformed number is at most.
template <int SIZE>
struct Transform;

template <>
struct Transform<2> {
  static constexpr int DIVISOR = 2;
  static constexpr int64_t INPUT[] = {2, 2, 2, 2}, WEIGHT[] = {1, 3, 3, 1};

  template <typename T>
  static void input(const T* d, T* v, int s) {
    v[0] = d[0] - d[2 * s];
    v[s] = d[s] + d[2 * s];
    v[2 * s] = d[2 * s] - d[s];
    v[3 * s] = d[s] - d[3 * s];
  }
  template <typename T>
  static void weight(const T* g, T* u, int t) {
    u[0] = g[0];
    u[t] = g[0] + g[1] + g[2];
    u[2 * t] = g[0] - g[1] + g[2];
    u[3 * t] = g[2];
  }
  template <typename T>
  static void output(const T* m, T* y, int s) {
    y[0] = 2 * m[0] + m[s] + m[2 * s];
    y[1] = m[s] - m[2 * s] - 2 * m[3 * s];
  }
};

template <>
struct Transform<4> {
  static constexpr int DIVISOR = 24;
  static constexpr int64_t INPUT[] = {10, 10, 10, 6, 6, 10}, WEIGHT[] = {1, 3, 3, 7, 7, 1};

  template <typename T>
  static void input(const T* d, T* v, int s) {
    const T a = d[4 * s] - 4 * d[2 * s], b = d[3 * s] - 4 * d[s], c = d[4 * s] - d[2 * s], e = 2 * (d[3 * s] - d[s]);
    const T first = 4 * d[0] - 5 * d[2 * s] + d[4 * s], last = 4 * d[s] - 5 * d[3 * s] + d[5 * s];
    v[0] = first;
    v[s] = a + b;
    v[2 * s] = a - b;
    v[3 * s] = c + e;
    v[4 * s] = c - e;
    v[5 * s] = last;
  }
  template <typename T>
  static void weight(const T* g, T* u, int t) {
    const T a = g[0] + g[2], b = g[0] + 4 * g[2], c = 2 * g[1];
    u[0] = g[0];
    u[t] = a + g[1];
    u[2 * t] = a - g[1];
    u[3 * t] = b + c;
    u[4 * t] = b - c;
    u[5 * t] = g[2];
  }
  template <typename T>
  static void output(const T* m, T* y, int s) {
    const T a = m[s] + m[2 * s], b = m[s] - m[2 * s], c = m[3 * s] + m[4 * s], e = m[3 * s] - m[4 * s];
    y[0] = 6 * m[0] - 4 * a + c;
    y[1] = 2 * e - 4 * b;
    y[2] = 4 * (c - a);
    y[3] = 8 * e - 4 * b + 24 * m[5 * s];
  }
};

}  // namespace
