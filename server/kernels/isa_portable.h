// Sixteen lanes of plain C++: what every machine can run, and what the other two are checked against. The loops are
// written so that a compiler turns them into whatever vectors its target has (NEON included).
#pragma once

#include <stdint.h>
#include <string.h>

#include "server/kernels/half.h"

namespace ebbinghaus::kernels {
namespace {

struct Portable {
  static constexpr int kTileRows = 4;    // rows of activations that share one read of the weights
  static constexpr int kByteOffset = 0;  // what a byte of weights is too large by when it is multiplied

  struct F {
    float v[16];
  };
  struct I {
    int32_t v[16];
  };
  struct Mask {
    bool v[16];
  };
  using Bytes = const uint8_t*;  // 16 lanes of four bytes, each 128 too large
  struct Nibbles {
    const uint8_t* line;
    int shift;
  };
  using NibbleSum = I;

#define EBB_EACH for (int i = 0; i < 16; ++i)
  static F Zero() { return Set(0); }
  static F Set(float value) {
    F r;
    EBB_EACH r.v[i] = value;
    return r;
  }
  static F Load(const float* p) {
    F r;
    memcpy(&r, p, sizeof r);
    return r;
  }
  static void Store(float* p, F a) { memcpy(p, &a, sizeof a); }
  static F LoadHalf(const uint16_t* p) {
    F r;
    EBB_EACH r.v[i] = HalfToFloat(p[i]);
    return r;
  }
  static F LoadBytesAsFloat(const int8_t* p) {
    F r;
    EBB_EACH r.v[i] = p[i];
    return r;
  }
  static void LoadPairs(const uint16_t* p, F& even, F& odd) {
    EBB_EACH {
      even.v[i] = Bf16ToFloat(p[2 * i]);
      odd.v[i] = Bf16ToFloat(p[2 * i + 1]);
    }
  }
  static F Add(F a, F b) {
    EBB_EACH a.v[i] += b.v[i];
    return a;
  }
  static F Sub(F a, F b) {
    EBB_EACH a.v[i] -= b.v[i];
    return a;
  }
  static F Mul(F a, F b) {
    EBB_EACH a.v[i] *= b.v[i];
    return a;
  }
  static F Div(F a, F b) {
    EBB_EACH a.v[i] /= b.v[i];
    return a;
  }
  // Fused or not, as the machine has it.
  static F Fma(F a, F b, F c) {
    EBB_EACH c.v[i] += a.v[i] * b.v[i];
    return c;
  }
  static F Max(F a, F b) {
    EBB_EACH a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
    return a;
  }
  static F Min(F a, F b) {
    EBB_EACH a.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
    return a;
  }
  static F Abs(F a) {
    EBB_EACH a.v[i] = a.v[i] < 0 ? -a.v[i] : a.v[i];
    return a;
  }
  static Mask AtLeast(F a, F b) {
    Mask r;
    EBB_EACH r.v[i] = a.v[i] >= b.v[i];
    return r;
  }
  static F Select(Mask m, F yes, F no) {
    EBB_EACH no.v[i] = m.v[i] ? yes.v[i] : no.v[i];
    return no;
  }
  static I Select(Mask m, I yes, I no) {
    EBB_EACH no.v[i] = m.v[i] ? yes.v[i] : no.v[i];
    return no;
  }

  static I SetInt(int32_t value) {
    I r;
    EBB_EACH r.v[i] = value;
    return r;
  }
  static I LoadInt(const int32_t* p) {
    I r;
    memcpy(&r, p, sizeof r);
    return r;
  }
  static void StoreInt(int32_t* p, I a) { memcpy(p, &a, sizeof a); }
  static I AddInt(I a, I b) {
    EBB_EACH a.v[i] += b.v[i];
    return a;
  }
  static I SubInt(I a, I b) {
    EBB_EACH a.v[i] -= b.v[i];
    return a;
  }
  static F ToFloat(I a) {
    F r;
    EBB_EACH r.v[i] = static_cast<float>(a.v[i]);
    return r;
  }
  // To the nearest, ties to even. Requires: within int32.
  static I Round(F a) {
    I r;
    EBB_EACH r.v[i] = static_cast<int32_t>(__builtin_rintf(a.v[i]));
    return r;
  }
  // 2^a. Requires: -126 <= a <= 127.
  static F PowerOfTwo(I a) {
    F r;
    EBB_EACH {
      const uint32_t bits = static_cast<uint32_t>(a.v[i] + 127) << 23;
      memcpy(&r.v[i], &bits, sizeof bits);
    }
    return r;
  }
  // 16 integers in [-128, 127] to bytes.
  static void StoreAsBytes(int8_t* p, I a) { EBB_EACH p[i] = static_cast<int8_t>(a.v[i]); }

  static Bytes LoadBytes(const uint8_t* line) { return line; }
  // acc + sum over four bytes of (w - 128 + kByteOffset) * x.
  static I Dot(I acc, Bytes w, const int8_t* x) {
    EBB_EACH {
      for (int j = 0; j < 4; ++j) acc.v[i] += (w[4 * i + j] - 128) * x[j];
    }
    return acc;
  }
  static Nibbles LowNibbles(const uint8_t* line) { return {line, 0}; }
  static Nibbles HighNibbles(const uint8_t* line) { return {line, 4}; }
  static NibbleSum NoNibbles() { return SetInt(0); }
  // acc + sum over four nibbles of w * x; at most eight times before Total.
  static NibbleSum DotNibbles(NibbleSum acc, Nibbles w, const int8_t* x) {
    EBB_EACH {
      for (int j = 0; j < 4; ++j) acc.v[i] += ((w.line[4 * i + j] >> w.shift) & 15) * x[j];
    }
    return acc;
  }
  static I Total(NibbleSum a) { return a; }

  // Activations for bf16 pairs stay fp32.
  using PairRow = float;
  static constexpr int kPairRowBytesPerValue = 4;
  static void PreparePairs(const float* x, int64_t n, PairRow* out) { memcpy(out, x, n * sizeof *x); }
  // acc + w(2k) * x(2k) + w(2k+1) * x(2k+1) of one line of 16 lanes x 2.
  template <int M>
  static void DotPairs(const uint16_t* line, const PairRow* x, int64_t stride, F (&acc)[M]) {
    F even, odd;
    LoadPairs(line, even, odd);
    for (int m = 0; m < M; ++m) {
      acc[m] = Fma(even, Set(x[m * stride]), acc[m]);
      acc[m] = Fma(odd, Set(x[m * stride + 1]), acc[m]);
    }
  }
#undef EBB_EACH
};

}  // namespace
}  // namespace ebbinghaus::kernels
