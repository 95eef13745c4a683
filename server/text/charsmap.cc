#include "server/text/charsmap.h"

#include "absl/status/status.h"
#include "server/text/unicode.h"

namespace ebbinghaus::text {
namespace {

bool HasLeaf(uint32_t unit) { return ((unit >> 8) & 1) != 0; }
uint32_t Value(uint32_t unit) { return unit & ((uint32_t{1} << 31) - 1); }
uint32_t Label(uint32_t unit) { return unit & ((uint32_t{1} << 31) | 0xFF); }
uint32_t Offset(uint32_t unit) { return (unit >> 10) << ((unit & (uint32_t{1} << 9)) >> 6); }

uint32_t ReadLittleEndian(std::string_view bytes) {
  uint32_t value = 0;
  for (int i = 3; i >= 0; --i) value = (value << 8) | static_cast<uint8_t>(bytes[i]);
  return value;
}

}  // namespace

absl::StatusOr<Charsmap> Charsmap::Parse(std::string_view bytes) {
  const uint32_t size = bytes.size() < 4 ? 0 : ReadLittleEndian(bytes);
  if (size == 0 || size % 4 != 0 || size > bytes.size() - 4) {
    return absl::InvalidArgumentError("precompiled_charsmap is malformed");
  }
  Charsmap map;
  map.units_.reserve(size / 4);
  for (size_t at = 4; at < 4 + size_t{size}; at += 4) {
    map.units_.push_back(ReadLittleEndian(bytes.substr(at)));
  }
  map.replacements_ = bytes.substr(4 + size);
  if (!IsValidUtf8(map.replacements_)) {
    return absl::InvalidArgumentError("precompiled_charsmap holds replacements that are not UTF-8");
  }
  return map;
}

Charsmap::Match Charsmap::Find(std::string_view text, bool longest) const {
  Match match;
  uint32_t node = Offset(units_[0]);
  for (size_t i = 0; i < text.size() && text[i] != '\0'; ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (node >= units_.size() || Label(units_[node]) != byte) break;
    const bool leaf = HasLeaf(units_[node]);
    node ^= Offset(units_[node]);
    if (node >= units_.size()) break;
    if (!leaf) continue;
    const uint32_t at = Value(units_[node]);
    if (at >= replacements_.size()) break;
    // Into the middle of a character no replacement leads.
    if ((static_cast<uint8_t>(replacements_[at]) & 0xC0) == 0x80) break;
    const std::string_view rest = std::string_view(replacements_).substr(at);
    match = {i + 1, rest.substr(0, rest.find('\0'))};
    if (!longest) break;
  }
  return match;
}

}  // namespace ebbinghaus::text
