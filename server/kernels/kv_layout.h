// How keys and values lie in a page, so that attention reads them as the matrix kernels read weights.
//
// A page holds, per kv head, the keys and then the values of `page_tokens` slots, then (kInt8) one fp32 scale per slot
// for keys and one for values. Lanes of keys are slots, lanes of values are dimensions:
//
//   keys    [page_tokens / 16][step of dimensions][16 slots]
//   values  [padded head size / 16][step of slots][16 dimensions]
//
// where a step is one (kF32: a line of 16 fp32; kInt8: 16 bytes) or, interleaved in the lane, two (kBf16).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ebbinghaus::kernels {

enum class KvForm { kF32, kBf16, kInt8 };
std::string_view Name(KvForm form);  // "f32", "bf16", "int8"

struct KvLayout {
  KvForm form = KvForm::kF32;
  int64_t kv_heads = 0;
  int64_t head_size = 0;    // D, even
  int64_t page_tokens = 64;  // a multiple of 16 that divides kBlockSlots

  int64_t padded_size() const { return (head_size + 15) / 16 * 16; }
  int64_t keys_bytes() const { return page_tokens * head_size * value_bytes(); }      // of one head
  int64_t values_bytes() const { return page_tokens * padded_size() * value_bytes(); }
  int64_t head_bytes() const {
    return keys_bytes() + values_bytes() + (form == KvForm::kInt8 ? 2 * page_tokens * int64_t{sizeof(float)} : 0);
  }
  int64_t page_bytes() const { return kv_heads * head_bytes(); }
  int64_t value_bytes() const { return form == KvForm::kF32 ? 4 : form == KvForm::kBf16 ? 2 : 1; }

  std::byte* Keys(std::byte* page, int64_t head) const { return page + head * head_bytes(); }
  std::byte* Values(std::byte* page, int64_t head) const { return Keys(page, head) + keys_bytes(); }
  float* KeyScales(std::byte* page, int64_t head) const {
    return reinterpret_cast<float*>(Values(page, head) + values_bytes());
  }
  float* ValueScales(std::byte* page, int64_t head) const { return KeyScales(page, head) + page_tokens; }
};

// Stores one token of one head, key and value [D], in slot `slot` of the page. Rounds to the nearest; kInt8 scales by
// the largest magnitude / 127.
void StoreToken(const KvLayout& layout, std::byte* page, int64_t head, int64_t slot, const float* key, const float* value);
// The stored numbers back, [D] each.
void LoadToken(const KvLayout& layout, const std::byte* page, int64_t head, int64_t slot, float* key, float* value);
// Copies one token, all heads, bit by bit.
void CopyToken(const KvLayout& layout, const std::byte* from, int64_t from_slot, std::byte* to, int64_t to_slot);

}  // namespace ebbinghaus::kernels
