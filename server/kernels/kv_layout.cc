#include "server/kernels/kv_layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "server/kernels/half.h"

namespace ebbinghaus::kernels {
namespace {

// Index of one stored number, counted in numbers from the start of the head's keys or values.
int64_t KeyIndex(const KvLayout& l, int64_t slot, int64_t dimension) {
  const int64_t tile = slot / 16 * 16 * l.head_size, lane = slot % 16;
  if (l.form == KvForm::kBf16) return tile + dimension / 2 * 32 + lane * 2 + dimension % 2;
  return tile + dimension * 16 + lane;
}

int64_t ValueIndex(const KvLayout& l, int64_t slot, int64_t dimension) {
  const int64_t tile = dimension / 16 * 16 * l.page_tokens, lane = dimension % 16;
  if (l.form == KvForm::kBf16) return tile + slot / 2 * 32 + lane * 2 + slot % 2;
  return tile + slot * 16 + lane;
}

template <typename T>
T* As(std::byte* p) {
  return reinterpret_cast<T*>(p);
}

// What to multiply by before rounding to int8; stores what to multiply by afterwards.
float ByteScale(const float* x, int64_t n, float& scale) {
  float largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(x[i]));
  scale = largest / 127;
  return scale > 1e-30f ? 1 / scale : 0;  // of less, the quotient may be infinite
}

int8_t ToByte(float x) { return static_cast<int8_t>(std::clamp(std::nearbyint(x), -127.0f, 127.0f)); }

}  // namespace

std::string_view Name(KvForm form) {
  return form == KvForm::kF32 ? "f32" : form == KvForm::kBf16 ? "bf16" : "int8";
}

void StoreToken(const KvLayout& l, std::byte* page, int64_t head, int64_t slot, const float* key, const float* value) {
  std::byte *keys = l.Keys(page, head), *values = l.Values(page, head);
  switch (l.form) {
    case KvForm::kF32:
      for (int64_t d = 0; d < l.head_size; ++d) As<float>(keys)[KeyIndex(l, slot, d)] = key[d];
      for (int64_t d = 0; d < l.head_size; ++d) As<float>(values)[ValueIndex(l, slot, d)] = value[d];
      break;
    case KvForm::kBf16:
      for (int64_t d = 0; d < l.head_size; ++d) As<uint16_t>(keys)[KeyIndex(l, slot, d)] = FloatToBf16(key[d]);
      for (int64_t d = 0; d < l.head_size; ++d) As<uint16_t>(values)[ValueIndex(l, slot, d)] = FloatToBf16(value[d]);
      break;
    case KvForm::kInt8: {
      const float k = ByteScale(key, l.head_size, l.KeyScales(page, head)[slot]);
      const float v = ByteScale(value, l.head_size, l.ValueScales(page, head)[slot]);
      for (int64_t d = 0; d < l.head_size; ++d) As<int8_t>(keys)[KeyIndex(l, slot, d)] = ToByte(key[d] * k);
      for (int64_t d = 0; d < l.head_size; ++d) As<int8_t>(values)[ValueIndex(l, slot, d)] = ToByte(value[d] * v);
      break;
    }
  }
}

void LoadToken(const KvLayout& l, const std::byte* page, int64_t head, int64_t slot, float* key, float* value) {
  auto* at = const_cast<std::byte*>(page);
  std::byte *keys = l.Keys(at, head), *values = l.Values(at, head);
  for (int64_t d = 0; d < l.head_size; ++d) {
    const int64_t k = KeyIndex(l, slot, d), v = ValueIndex(l, slot, d);
    switch (l.form) {
      case KvForm::kF32:
        key[d] = As<float>(keys)[k];
        value[d] = As<float>(values)[v];
        break;
      case KvForm::kBf16:
        key[d] = Bf16ToFloat(As<uint16_t>(keys)[k]);
        value[d] = Bf16ToFloat(As<uint16_t>(values)[v]);
        break;
      case KvForm::kInt8:
        key[d] = static_cast<float>(As<int8_t>(keys)[k]) * l.KeyScales(at, head)[slot];
        value[d] = static_cast<float>(As<int8_t>(values)[v]) * l.ValueScales(at, head)[slot];
        break;
    }
  }
}

void CopyToken(const KvLayout& l, const std::byte* from, int64_t from_slot, std::byte* to, int64_t to_slot) {
  auto* source = const_cast<std::byte*>(from);
  const int64_t size = l.value_bytes();
  for (int64_t head = 0; head < l.kv_heads; ++head) {
    std::byte *from_keys = l.Keys(source, head), *to_keys = l.Keys(to, head);
    std::byte *from_values = l.Values(source, head), *to_values = l.Values(to, head);
    for (int64_t d = 0; d < l.head_size; ++d) {
      std::memcpy(to_keys + KeyIndex(l, to_slot, d) * size, from_keys + KeyIndex(l, from_slot, d) * size, size);
      std::memcpy(to_values + ValueIndex(l, to_slot, d) * size, from_values + ValueIndex(l, from_slot, d) * size, size);
    }
    if (l.form == KvForm::kInt8) {
      l.KeyScales(to, head)[to_slot] = l.KeyScales(source, head)[from_slot];
      l.ValueScales(to, head)[to_slot] = l.ValueScales(source, head)[from_slot];
    }
  }
}

}  // namespace ebbinghaus::kernels
