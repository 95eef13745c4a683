// The kernels, written once over the sixteen lanes of an instruction set (isa_*.h) and compiled once for each. A file that
// includes this is built with flags of its own, so it must take nothing from the standard library that the linker could
// share with other files.
//
// Order of summation: one accumulator per output, over rising columns (or slots). Computing more rows together changes
// which registers are used, never that order.
#pragma once

#include "server/kernels/kernels.h"

namespace ebbinghaus::kernels {
namespace {

template <class Isa>
struct Kernels {
  using F = typename Isa::F;
  using I = typename Isa::I;
  using PairRow = typename Isa::PairRow;

  static constexpr float kInfinity = __builtin_inff();

  // ------------------------------------------------------------------------------------------------ dot products
  // acc[m] += line by line weights x row m: `steps` fp32 columns, `steps` / 2 pairs of bf16, or `steps` int8 columns.
  template <int M>
  static void DotF32(const std::byte* lines, const float* x, int64_t stride, int64_t steps, F (&acc)[M]) {
    const auto* w = reinterpret_cast<const float*>(lines);
    for (int64_t k = 0; k < steps; ++k, w += 16) {
      const F line = Isa::Load(w);
      for (int m = 0; m < M; ++m) acc[m] = Isa::Fma(line, Isa::Set(x[m * stride + k]), acc[m]);
    }
  }

  template <int M>
  static void DotBf16(const std::byte* lines, const PairRow* x, int64_t stride, int64_t steps, F (&acc)[M]) {
    const auto* w = reinterpret_cast<const uint16_t*>(lines);
    for (int64_t k = 0; k < steps; k += 2, w += 32) Isa::template DotPairs<M>(w, x + k, stride, acc);
  }

  template <int M>
  static void DotBytes(const std::byte* lines, const float* x, int64_t stride, int64_t steps, F (&acc)[M]) {
    const auto* w = reinterpret_cast<const int8_t*>(lines);
    for (int64_t k = 0; k < steps; ++k, w += 16) {
      const F line = Isa::LoadBytesAsFloat(w);
      for (int m = 0; m < M; ++m) acc[m] = Isa::Fma(line, Isa::Set(x[m * stride + k]), acc[m]);
    }
  }

  // ---------------------------------------------------------------------------------------------------- matrices
  struct Tile {
    const std::byte* block;
    int64_t columns;  // padded
    const std::byte* x;
    const float* scales;
    const int32_t* sums;
    int64_t row_bytes, groups;
    const float* bias;
    float* out;
    int64_t stride;
  };

  template <int M>
  static void Clear(F (&acc)[M]) {
    for (int m = 0; m < M; ++m) acc[m] = Isa::Zero();
  }

  template <int M>
  static void Write(const Tile& t, const F (&acc)[M]) {
    const F bias = t.bias == nullptr ? Isa::Zero() : Isa::Load(t.bias);
    for (int m = 0; m < M; ++m) Isa::Store(t.out + m * t.stride, Isa::Add(acc[m], bias));
  }

  template <int M>
  static void F32Tile(const Tile& t) {
    F acc[M];
    Clear(acc);
    DotF32<M>(t.block, reinterpret_cast<const float*>(t.x), t.row_bytes / 4, t.columns, acc);
    Write(t, acc);
  }

  template <int M>
  static void Bf16Tile(const Tile& t) {
    F acc[M];
    Clear(acc);
    DotBf16<M>(t.block, reinterpret_cast<const PairRow*>(t.x), t.row_bytes / static_cast<int64_t>(sizeof(PairRow)), t.columns,
               acc);
    Write(t, acc);
  }

  template <int M>
  static void Int8RowTile(const Tile& t) {
    const auto* w = reinterpret_cast<const uint8_t*>(t.block);
    const auto* x = reinterpret_cast<const int8_t*>(t.x);
    F acc[M];
    Clear(acc);
    for (int64_t g = 0; g < t.groups; ++g) {
      const int64_t end = (g + 1) * kRowFormGroup < t.columns ? (g + 1) * kRowFormGroup : t.columns;
      I total[M];
      for (int m = 0; m < M; ++m) total[m] = Isa::SetInt(-Isa::kByteOffset * t.sums[m * t.groups + g]);
      for (int64_t k = g * kRowFormGroup; k < end; k += 4, w += kLineBytes) {
        const auto line = Isa::LoadBytes(w);
        for (int m = 0; m < M; ++m) total[m] = Isa::Dot(total[m], line, x + m * t.row_bytes + k);
      }
      for (int m = 0; m < M; ++m) acc[m] = Isa::Fma(Isa::ToFloat(total[m]), Isa::Set(t.scales[m * t.groups + g]), acc[m]);
    }
    const F scale = Isa::Load(reinterpret_cast<const float*>(w));
    for (int m = 0; m < M; ++m) acc[m] = Isa::Mul(acc[m], scale);
    Write(t, acc);
  }

  // acc[m] += total[m] * scales of 16 rows * scale of row m's group.
  template <int M>
  static void AddGroup(const Tile& t, int64_t group, F scale, const I (&total)[M], F (&acc)[M]) {
    for (int m = 0; m < M; ++m) {
      const F both = Isa::Mul(scale, Isa::Set(t.scales[m * t.groups + group]));
      acc[m] = Isa::Fma(Isa::ToFloat(total[m]), both, acc[m]);
    }
  }

  template <int M>
  static void Int8GroupTile(const Tile& t) {
    const auto* w = reinterpret_cast<const uint8_t*>(t.block);
    const auto* x = reinterpret_cast<const int8_t*>(t.x);
    F acc[M];
    Clear(acc);
    for (int64_t group = 0; group < t.columns / kGroup; group += 2) {
      const auto* scales = reinterpret_cast<const uint16_t*>(w);
      w += kLineBytes;
      for (int half = 0; half < 2; ++half) {
        const int64_t g = group + half;
        I total[M];
        for (int m = 0; m < M; ++m) total[m] = Isa::SetInt(-Isa::kByteOffset * t.sums[m * t.groups + g]);
        for (int64_t k = g * kGroup; k < (g + 1) * kGroup; k += 4, w += kLineBytes) {
          const auto line = Isa::LoadBytes(w);
          for (int m = 0; m < M; ++m) total[m] = Isa::Dot(total[m], line, x + m * t.row_bytes + k);
        }
        AddGroup<M>(t, g, Isa::LoadHalf(scales + half * 16), total, acc);
      }
    }
    Write(t, acc);
  }

  template <int M, bool kMinimum>
  static void Int4Tile(const Tile& t) {
    const auto* w = reinterpret_cast<const uint8_t*>(t.block);
    const auto* x = reinterpret_cast<const int8_t*>(t.x);
    F acc[M];
    Clear(acc);
    for (int64_t group = 0; group < t.columns / kGroup; group += 2) {
      const auto* scales = reinterpret_cast<const uint16_t*>(w);
      w += (kMinimum ? 2 : 1) * kLineBytes;
      for (int half = 0; half < 2; ++half) {
        const int64_t g = group + half;
        typename Isa::NibbleSum sum[M];
        for (int m = 0; m < M; ++m) sum[m] = Isa::NoNibbles();
        for (int line = 0; line < 8; ++line) {
          const auto nibbles =
              half == 0 ? Isa::LowNibbles(w + line * kLineBytes) : Isa::HighNibbles(w + line * kLineBytes);
          for (int m = 0; m < M; ++m) {
            sum[m] = Isa::DotNibbles(sum[m], nibbles, x + m * t.row_bytes + g * kGroup + line * 4);
          }
        }
        I total[M];
        for (int m = 0; m < M; ++m) {
          total[m] = Isa::Total(sum[m]);
          if (!kMinimum) total[m] = Isa::SubInt(total[m], Isa::SetInt(8 * t.sums[m * t.groups + g]));
        }
        AddGroup<M>(t, g, Isa::LoadHalf(scales + half * 16), total, acc);
        if (kMinimum) {
          const F minimum = Isa::LoadHalf(scales + 32 + half * 16);
          for (int m = 0; m < M; ++m) {
            const int64_t at = m * t.groups + g;
            acc[m] = Isa::Fma(minimum, Isa::Set(t.scales[at] * static_cast<float>(t.sums[at])), acc[m]);
          }
        }
      }
      w += 8 * kLineBytes;
    }
    Write(t, acc);
  }

  template <int M>
  static void RunTile(WeightForm form, const Tile& t) {
    switch (form) {
      case WeightForm::kF32: return F32Tile<M>(t);
      case WeightForm::kBf16: return Bf16Tile<M>(t);
      case WeightForm::kInt8Row: return Int8RowTile<M>(t);
      case WeightForm::kInt8Group: return Int8GroupTile<M>(t);
      case WeightForm::kInt4: return Int4Tile<M, false>(t);
      case WeightForm::kInt4Min: return Int4Tile<M, true>(t);
    }
  }

  // Calls run.template operator()<M>(first) for tiles of at most kTileRows rows.
  template <class Run>
  static void ForTiles(int64_t rows, const Run& run) {
    int64_t first = 0;
    for (; first + Isa::kTileRows <= rows; first += Isa::kTileRows) run.template operator()<Isa::kTileRows>(first);
    Rest<Isa::kTileRows - 1>(rows - first, first, run);
  }
  template <int M, class Run>
  static void Rest(int64_t rows, int64_t first, const Run& run) {
    if constexpr (M > 0) {
      if (rows == M) return run.template operator()<M>(first);
      Rest<M - 1>(rows, first, run);
    }
  }

  static void Multiply(WeightForm form, const std::byte* blocks, int64_t block_count, int64_t columns, const PreparedRows& x,
                       int64_t rows, const float* bias, float* out, int64_t stride) {
    const int64_t padded = PaddedColumns(form, columns), block_bytes = BlockBytes(form, columns);
    for (int64_t b = 0; b < block_count; ++b) {
      ForTiles(rows, [&]<int M>(int64_t first) {
        RunTile<M>(form, {blocks + b * block_bytes, padded, x.data + first * x.row_bytes, x.scales + first * x.groups,
                          x.sums + first * x.groups, x.row_bytes, x.groups, bias == nullptr ? nullptr : bias + 16 * b,
                          out + first * stride + 16 * b, stride});
      });
    }
  }

  static int64_t PreparedRowBytes(WeightForm form, int64_t columns) {
    const int64_t padded = PaddedColumns(form, columns);
    if (form == WeightForm::kF32) return padded * 4;
    if (form == WeightForm::kBf16) return padded * static_cast<int64_t>(sizeof(PairRow));
    return padded;
  }

  static float Largest(const float* x, int64_t n) {
    F most = Isa::Zero();
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) most = Isa::Max(most, Isa::Abs(Isa::Load(x + i)));
    float lanes[16];
    Isa::Store(lanes, most);
    float largest = 0;
    for (float lane : lanes) largest = lane > largest ? lane : largest;
    for (; i < n; ++i) {
      const float magnitude = x[i] < 0 ? -x[i] : x[i];
      largest = magnitude > largest ? magnitude : largest;
    }
    return largest;
  }

  // n values to bytes, the rest up to `padded` zero; returns their sum.
  static int32_t Quantize(const float* x, int64_t n, int64_t padded, float& scale, int8_t* out) {
    const float largest = Largest(x, n);
    scale = largest / 127.0f;
    const float inverse = largest > 1e-30f ? 127.0f / largest : 0;  // of less, the quotient may be infinite
    const F factor = Isa::Set(inverse);
    I sum = Isa::SetInt(0);
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      const I q = Isa::Round(Isa::Mul(Isa::Load(x + i), factor));
      sum = Isa::AddInt(sum, q);
      Isa::StoreAsBytes(out + i, q);
    }
    int32_t lanes[16], total = 0;
    Isa::StoreInt(lanes, sum);
    for (int32_t lane : lanes) total += lane;
    for (; i < n; ++i) {
      out[i] = static_cast<int8_t>(__builtin_rintf(x[i] * inverse));
      total += out[i];
    }
    for (; i < padded; ++i) out[i] = 0;
    return total;
  }

  static void Prepare(WeightForm form, const float* x, int64_t stride, int64_t rows, int64_t columns,
                      const PreparedRows& out) {
    const int64_t padded = PaddedColumns(form, columns);
    for (int64_t r = 0; r < rows; ++r, x += stride) {
      std::byte* data = out.data + r * out.row_bytes;
      if (form == WeightForm::kF32) {
        memcpy(data, x, columns * sizeof *x);
      } else if (form == WeightForm::kBf16) {
        auto* pairs = reinterpret_cast<PairRow*>(data);
        Isa::PreparePairs(x, columns, pairs);
        for (int64_t i = columns; i < padded; ++i) pairs[i] = 0;
      } else {
        const int64_t group = ActivationGroup(form);
        for (int64_t g = 0; g < out.groups; ++g) {
          const int64_t first = g * group, left = columns - first, room = padded - first;
          const int64_t n = left < 0 ? 0 : left < group ? left : group;
          out.sums[r * out.groups + g] =
              Quantize(x + first, n, room < group ? room : group, out.scales[r * out.groups + g],
                       reinterpret_cast<int8_t*>(data) + first);
        }
      }
    }
  }

  // --------------------------------------------------------------------------------------------------- attention
  static int64_t KvRowBytes(KvForm form, int64_t values) {
    return values * static_cast<int64_t>(form == KvForm::kBf16 ? sizeof(PairRow) : sizeof(float));
  }

  static void PrepareKvRow(KvForm form, const float* x, const float* scale, int64_t n, std::byte* out) {
    if (scale != nullptr) {
      float scaled[kBlockSlots];
      for (int64_t i = 0; i < n; ++i) scaled[i] = x[i] * scale[i];
      return PrepareKvRow(form, scaled, nullptr, n, out);
    }
    if (form == KvForm::kBf16) {
      Isa::PreparePairs(x, n, reinterpret_cast<PairRow*>(out));
    } else {
      memcpy(out, x, n * sizeof *x);
    }
  }

  template <int M>
  static void DotKv(KvForm form, const std::byte* lines, const std::byte* x, int64_t row_bytes, int64_t steps, F (&acc)[M]) {
    if (form == KvForm::kBf16) {
      return DotBf16<M>(lines, reinterpret_cast<const PairRow*>(x), row_bytes / static_cast<int64_t>(sizeof(PairRow)), steps,
                        acc);
    }
    const auto* row = reinterpret_cast<const float*>(x);
    if (form == KvForm::kF32) return DotF32<M>(lines, row, row_bytes / 4, steps, acc);
    DotBytes<M>(lines, row, row_bytes / 4, steps, acc);
  }

  static void Scores(const KvLayout& layout, const KvBlock& block, const std::byte* queries, int64_t rows, float* scores) {
    const int64_t row_bytes = KvRowBytes(layout.form, layout.head_size);
    const int64_t tile_bytes = 16 * layout.head_size * layout.value_bytes();
    for (int64_t slot = 0; slot < block.slots; slot += 16) {
      std::byte* page = block.pages[slot / layout.page_tokens];
      const int64_t in_page = slot % layout.page_tokens;
      const std::byte* lines = layout.Keys(page, block.head) + in_page / 16 * tile_bytes;
      const F scale = layout.form == KvForm::kInt8 ? Isa::Load(layout.KeyScales(page, block.head) + in_page) : Isa::Set(1);
      ForTiles(rows, [&]<int M>(int64_t first) {
        F acc[M];
        Clear(acc);
        DotKv<M>(layout.form, lines, queries + first * row_bytes, row_bytes, layout.head_size, acc);
        for (int m = 0; m < M; ++m) Isa::Store(scores + (first + m) * kBlockSlots + slot, Isa::Mul(acc[m], scale));
      });
    }
  }

  static void Mix(const KvLayout& layout, const KvBlock& block, const std::byte* probabilities, int64_t rows, float* mixed) {
    const int64_t size = layout.padded_size(), row_bytes = KvRowBytes(layout.form, kBlockSlots);
    const int64_t tile_bytes = 16 * layout.page_tokens * layout.value_bytes();
    for (int64_t d = 0; d < size; d += 16) {
      ForTiles(rows, [&]<int M>(int64_t first) {
        F acc[M];
        Clear(acc);
        for (int64_t slot = 0; slot < block.slots; slot += layout.page_tokens) {
          const int64_t left = block.slots - slot;
          // Pairs beyond the last slot hold zeros or old numbers, which a probability of 0 silences.
          const int64_t steps = left < layout.page_tokens ? (left + 1) / 2 * 2 : layout.page_tokens;
          const std::byte* values = layout.Values(block.pages[slot / layout.page_tokens], block.head);
          DotKv<M>(layout.form, values + d / 16 * tile_bytes,
                   probabilities + first * row_bytes + KvRowBytes(layout.form, slot), row_bytes, steps, acc);
        }
        for (int m = 0; m < M; ++m) Isa::Store(mixed + (first + m) * size + d, acc[m]);
      });
    }
  }

  // e^x for x <= 88; 0 below -87. Degree 6 on [-ln 2 / 2, ln 2 / 2]; relative error below 2e-7.
  static F Exp(F x) {
    const F bounded = Isa::Max(x, Isa::Set(-87.0f));
    const I n = Isa::Round(Isa::Mul(bounded, Isa::Set(1.44269504088896341f)));
    const F whole = Isa::ToFloat(n);
    F r = Isa::Fma(whole, Isa::Set(-0.693359375f), bounded);
    r = Isa::Fma(whole, Isa::Set(2.12194440e-4f), r);
    F p = Isa::Set(1.9875691500e-4f);
    p = Isa::Fma(p, r, Isa::Set(1.3981999507e-3f));
    p = Isa::Fma(p, r, Isa::Set(8.3334519073e-3f));
    p = Isa::Fma(p, r, Isa::Set(4.1665795894e-2f));
    p = Isa::Fma(p, r, Isa::Set(1.6666665459e-1f));
    p = Isa::Fma(p, r, Isa::Set(5.0000001201e-1f));
    p = Isa::Add(Isa::Fma(p, Isa::Mul(r, r), r), Isa::Set(1));
    return Isa::Select(Isa::AtLeast(x, Isa::Set(-87.0f)), Isa::Mul(p, Isa::PowerOfTwo(n)), Isa::Zero());
  }

  static float SumOfLanes(F x) {
    float lanes[16], sum = 0;
    Isa::Store(lanes, x);
    for (float lane : lanes) sum += lane;
    return sum;
  }

  static void BlockSoftmax(float* scores, int64_t visible, const float* log_weights, const float* factors, float* maximum,
                           float* sum) {
    F most = Isa::Set(-kInfinity);
    const int64_t tiles = (visible + 15) / 16 * 16;
    for (int64_t i = visible; i < tiles; ++i) scores[i] = -kInfinity;
    for (int64_t i = 0; i < tiles; i += 16) {
      F s = Isa::Load(scores + i);
      if (factors != nullptr) s = Isa::Mul(s, Isa::Load(factors + i));
      if (log_weights != nullptr) s = Isa::Add(s, Isa::Load(log_weights + i));
      if (factors != nullptr || log_weights != nullptr) {
        Isa::Store(scores + i, s);
        for (int64_t j = visible; j < i + 16; ++j) scores[j] = -kInfinity;
        s = Isa::Load(scores + i);
      }
      most = Isa::Max(most, s);
    }
    float lanes[16], largest = -kInfinity;
    Isa::Store(lanes, most);
    for (float lane : lanes) largest = lane > largest ? lane : largest;
    *maximum = largest;
    F total = Isa::Zero();
    const F shift = Isa::Set(largest);
    for (int64_t i = 0; i < tiles; i += 16) {
      const F p = Exp(Isa::Sub(Isa::Load(scores + i), shift));
      Isa::Store(scores + i, p);
      total = Isa::Add(total, p);
    }
    for (int64_t i = tiles; i < kBlockSlots; i += 16) Isa::Store(scores + i, Isa::Zero());
    *sum = SumOfLanes(total);
  }

  // Runs f(i) -> 16 lanes over [0, n) and stores them; the last, shorter part goes through `rest`.
  static F LoadPart(const float* x, int64_t n) {
    float part[16] = {};
    memcpy(part, x, n * sizeof *x);
    return Isa::Load(part);
  }
  static void StorePart(float* out, int64_t n, F x) {
    float part[16];
    Isa::Store(part, x);
    memcpy(out, part, n * sizeof *out);
  }
  template <class Function>
  static void Map(const float* x, int64_t n, float* out, const Function& f) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) Isa::Store(out + i, f(Isa::Load(x + i)));
    if (i < n) StorePart(out + i, n - i, f(LoadPart(x + i, n - i)));
  }

  static void LogWeights(const float* strength, const int32_t* last_reset, int32_t now, float time_step, float lowest,
                         float highest, int64_t n, float* out) {
    const F low = Isa::Set(lowest), high = Isa::Set(highest), step = Isa::Set(-time_step);
    const I clock = Isa::SetInt(now);
    const auto weigh = [&](F s, I reset) {
      const F elapsed = Isa::Mul(Isa::ToFloat(Isa::SubInt(clock, reset)), step);
      return Isa::Min(Isa::Max(Isa::Div(elapsed, s), low), high);
    };
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) Isa::Store(out + i, weigh(Isa::Load(strength + i), Isa::LoadInt(last_reset + i)));
    if (i == n) return;
    float s[16];
    int32_t reset[16];
    for (int j = 0; j < 16; ++j) {
      s[j] = i + j < n ? strength[i + j] : 1;
      reset[j] = i + j < n ? last_reset[i + j] : now;
    }
    StorePart(out + i, n - i, weigh(Isa::Load(s), Isa::LoadInt(reset)));
  }

  static void Exponentials(const float* x, int64_t n, float* out) {
    Map(x, n, out, [](F v) { return Exp(v); });
  }

  static void AddScaledRows(const float* x, const float* factors, int64_t rows, int64_t n, float* sum) {
    int64_t i = 0;
    for (; i + 64 <= n; i += 64) AddScaledTiles<4>(x + i, factors, rows, sum + i);
    for (; i < n; i += 16) AddScaledTiles<1>(x + i, factors, rows, sum + i);
  }
  // So many chains of sums that none waits for another's result.
  template <int kTiles>
  static void AddScaledTiles(const float* x, const float* factors, int64_t rows, float* sum) {
    F total[kTiles];
    for (int t = 0; t < kTiles; ++t) total[t] = Isa::Load(sum + 16 * t);
    for (int64_t row = 0; row < rows; ++row) {
      const F factor = Isa::Set(factors[row]);
      for (int t = 0; t < kTiles; ++t) total[t] = Isa::Fma(Isa::Load(x + row * kBlockSlots + 16 * t), factor, total[t]);
    }
    for (int t = 0; t < kTiles; ++t) Isa::Store(sum + 16 * t, total[t]);
  }

  static void AddColumns(const float* mass, float threshold, int32_t row, int64_t n, int64_t* sums, int32_t* last_strong_row) {
    constexpr float kScale = 1 << 27;
    for (int64_t i = 0; i < n; ++i) {
      sums[i] += static_cast<int32_t>(__builtin_rintf(mass[i] * kScale));
      last_strong_row[i] = mass[i] >= threshold && row > last_strong_row[i] ? row : last_strong_row[i];
    }
  }

  // ------------------------------------------------------------------------------------------------- the rest
  static void RmsNorm(const float* x, const float* weight, float epsilon, int64_t n, float* out) {
    F squares = Isa::Zero();
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      const F v = Isa::Load(x + i);
      squares = Isa::Fma(v, v, squares);
    }
    if (i < n) {
      const F v = LoadPart(x + i, n - i);
      squares = Isa::Fma(v, v, squares);
    }
    const float scale = 1.0f / __builtin_sqrtf(SumOfLanes(squares) / static_cast<float>(n) + epsilon);
    for (i = 0; i < n; ++i) out[i] = x[i] * scale * weight[i];
  }

  static void Add(const float* x, int64_t n, float* sum) {
    for (int64_t i = 0; i < n; ++i) sum[i] += x[i];
  }

  static void SiluMultiply(float* gate, const float* up, int64_t n) {
    const auto silu = [](F v) {
      const F bounded = Isa::Max(v, Isa::Set(-80.0f));
      const F positive = Isa::Select(Isa::AtLeast(v, Isa::Zero()), v, Isa::Sub(Isa::Zero(), bounded));
      const F e = Exp(Isa::Sub(Isa::Zero(), positive));  // e^-|v|, in (0, 1]
      const F one = Isa::Set(1);
      const F sigmoid = Isa::Div(Isa::Select(Isa::AtLeast(v, Isa::Zero()), one, e), Isa::Add(one, e));
      return Isa::Mul(v, sigmoid);
    };
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) Isa::Store(gate + i, Isa::Mul(silu(Isa::Load(gate + i)), Isa::Load(up + i)));
    if (i < n) StorePart(gate + i, n - i, Isa::Mul(silu(LoadPart(gate + i, n - i)), LoadPart(up + i, n - i)));
  }

  static void Rotate(float* x, const float* cosine, const float* sine, int64_t half, float scale) {
    for (int64_t i = 0; i < half; ++i) {
      const float a = x[i], b = x[half + i];
      x[i] = (a * cosine[i] - b * sine[i]) * scale;
      x[half + i] = (b * cosine[i] + a * sine[i]) * scale;
    }
  }

  static constexpr KernelTable Table(std::string_view name) {
    return {name,  &PreparedRowBytes, &Prepare,    &Multiply,     &KvRowBytes, &PrepareKvRow, &Scores,
            &BlockSoftmax, &Mix,      &LogWeights, &Exponentials, &AddScaledRows, &AddColumns,   &RmsNorm,
            &Add,   &SiluMultiply,    &Rotate};
  }
};

}  // namespace
}  // namespace ebbinghaus::kernels
