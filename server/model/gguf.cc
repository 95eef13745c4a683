#include "server/model/gguf.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace ebbinghaus::model {
namespace {

absl::Status Bad(const std::string& what) { return absl::InvalidArgumentError(absl::StrCat("GGUF: ", what)); }
std::string Quoted(const std::string& name) { return absl::StrCat("\"", name.substr(0, 128), "\""); }

// A cursor that never leaves its span: once a read would, everything reads as zero and ok() is false.
class Reader {
 public:
  explicit Reader(absl::Span<const std::byte> bytes) : bytes_(bytes) {}

  bool ok() const { return ok_; }
  size_t offset() const { return offset_; }
  size_t left() const { return bytes_.size() - offset_; }

  template <typename T>
  T Take() {
    T value{};
    if (left() < sizeof value) {
      ok_ = false;
    } else {
      std::memcpy(&value, bytes_.data() + offset_, sizeof value);
      offset_ += sizeof value;
    }
    return value;
  }

  std::string TakeString() {
    const auto length = Take<uint64_t>();
    if (!ok_ || length > left()) {
      ok_ = false;
      return {};
    }
    const char* start = reinterpret_cast<const char*>(bytes_.data()) + offset_;
    offset_ += length;
    return std::string(start, length);
  }

 private:
  const absl::Span<const std::byte> bytes_;
  size_t offset_ = 0;
  bool ok_ = true;
};

enum ValueType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

// Bytes that one element takes at least; 0 for kinds that a list may not hold.
size_t LeastBytes(uint32_t type) {
  constexpr size_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};
  return type <= kF64 ? kBytes[type] : 0;
}

bool IsReal(uint32_t type) { return type == kF32 || type == kF64; }

double TakeReal(Reader& in, uint32_t type) { return type == kF32 ? in.Take<float>() : in.Take<double>(); }

int64_t TakeInteger(Reader& in, uint32_t type) {
  switch (type) {
    case kU8: return in.Take<uint8_t>();
    case kI8: return in.Take<int8_t>();
    case kU16: return in.Take<uint16_t>();
    case kI16: return in.Take<int16_t>();
    case kU32: return in.Take<uint32_t>();
    case kI32: return in.Take<int32_t>();
    case kBool: return in.Take<uint8_t>();
    default: return in.Take<int64_t>();
  }
}

absl::StatusOr<GgufValue> TakeList(Reader& in, const std::string& key) {
  const auto type = in.Take<uint32_t>();
  const auto count = in.Take<uint64_t>();
  const size_t least = LeastBytes(type);
  if (!in.ok() || least == 0 || count > in.left() / least) return Bad(absl::StrCat("the list ", Quoted(key), " does not fit in the file"));
  if (type == kString) {
    std::vector<std::string> list;
    list.reserve(count);
    for (uint64_t i = 0; i < count && in.ok(); ++i) list.push_back(in.TakeString());
    return list;
  }
  if (IsReal(type)) {
    std::vector<double> list(count);
    for (double& value : list) value = TakeReal(in, type);
    return list;
  }
  std::vector<int64_t> list(count);
  for (int64_t& value : list) value = TakeInteger(in, type);
  return list;
}

absl::StatusOr<GgufValue> TakeValue(Reader& in, const std::string& key) {
  const auto type = in.Take<uint32_t>();
  switch (type) {
    case kString: return in.TakeString();
    case kArray: return TakeList(in, key);
    case kBool: return in.Take<uint8_t>() != 0;
    case kF32:
    case kF64: return TakeReal(in, type);
    case kU8:
    case kU16:
    case kU32: return static_cast<uint64_t>(TakeInteger(in, type));
    case kU64: return in.Take<uint64_t>();
    case kI8:
    case kI16:
    case kI32:
    case kI64: return TakeInteger(in, type);
    default: return Bad(absl::StrCat("the value of ", Quoted(key), " has the unknown type ", type));
  }
}

absl::StatusOr<TensorType> ParseType(uint32_t type, const std::string& name) {
  switch (type) {
    case 0: return TensorType::kF32;
    case 1: return TensorType::kF16;
    case 2: return TensorType::kQ4_0;
    case 3: return TensorType::kQ4_1;
    case 6: return TensorType::kQ5_0;
    case 7: return TensorType::kQ5_1;
    case 8: return TensorType::kQ8_0;
    case 12: return TensorType::kQ4K;
    case 13: return TensorType::kQ5K;
    case 14: return TensorType::kQ6K;
    case 30: return TensorType::kBf16;
    default:
      return Bad(absl::StrCat("tensor ", Quoted(name), " has the type number ", type, ", which is not supported; supported are ",
                              "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K"));
  }
}

struct TensorInfo {
  std::string name;
  TensorView view;
  uint64_t offset = 0, size = 0;  // from the start of the data
};

absl::StatusOr<TensorInfo> TakeTensorInfo(Reader& in) {
  TensorInfo info;
  info.name = in.TakeString();
  const auto dimensions = in.Take<uint32_t>();
  if (!in.ok()) return Bad("the file ends inside its list of tensors");
  if (dimensions < 1 || dimensions > 4) return Bad(absl::StrCat("tensor ", Quoted(info.name), " has ", dimensions, " dimensions"));
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto extent = in.Take<uint64_t>();
    if (extent == 0 || extent > (1ull << 40)) return Bad(absl::StrCat("tensor ", Quoted(info.name), ": a dimension is out of range"));
    info.view.shape.insert(info.view.shape.begin(), static_cast<int64_t>(extent));  // the file counts from the innermost
  }
  const auto type = in.Take<uint32_t>();
  info.offset = in.Take<uint64_t>();
  if (!in.ok()) return Bad("the file ends inside its list of tensors");
  EBB_ASSIGN_OR_RETURN(info.view.type, ParseType(type, info.name));
  const std::optional<uint64_t> size = TensorBytes(info.view.type, info.view.shape);
  if (!size) return Bad(absl::StrCat("tensor ", Quoted(info.name), ": its shape does not fit its type"));
  info.size = *size;
  return info;
}

absl::Status PlaceTensors(std::vector<TensorInfo>& infos, absl::Span<const std::byte> data, uint64_t alignment, Gguf& gguf) {
  std::sort(infos.begin(), infos.end(), [](const TensorInfo& a, const TensorInfo& b) { return a.offset < b.offset; });
  uint64_t end = 0;
  for (TensorInfo& info : infos) {
    const std::string name = Quoted(info.name);
    if (info.offset % alignment != 0) return Bad(absl::StrCat("tensor ", name, " is not aligned to ", alignment, " bytes"));
    if (info.offset < end) return Bad(absl::StrCat("tensor ", name, " overlaps the one before it"));
    if (info.offset > data.size() || info.size > data.size() - info.offset) {
      return Bad(absl::StrCat("tensor ", name, " lies outside the file, which may be truncated"));
    }
    end = info.offset + info.size;
    info.view.data = data.subspan(info.offset, info.size);
    if (!gguf.tensors.emplace(std::move(info.name), std::move(info.view)).second) return Bad(absl::StrCat("tensor ", name, " is there twice"));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> Alignment(const Gguf& gguf) {
  EBB_ASSIGN_OR_RETURN(const auto alignment, gguf.Count("general.alignment"));
  const uint64_t value = alignment.value_or(32);
  if (value == 0 || value > (1 << 20) || (value & (value - 1)) != 0) return Bad("general.alignment must be a power of two up to 1 MiB");
  return value;
}

absl::Status WrongKind(const std::string& key) { return Bad(absl::StrCat("the value of ", Quoted(key), " has the wrong type")); }

}  // namespace

absl::StatusOr<std::string> Gguf::Text(const std::string& key, std::string_view fallback) const {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return std::string(fallback);
  const auto* text = std::get_if<std::string>(&found->second);
  if (text == nullptr) return WrongKind(key);
  return *text;
}

absl::StatusOr<std::optional<uint64_t>> Gguf::Count(const std::string& key) const {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return std::nullopt;
  if (const auto* value = std::get_if<uint64_t>(&found->second)) return *value;
  const auto* value = std::get_if<int64_t>(&found->second);
  if (value == nullptr || *value < 0) return WrongKind(key);
  return static_cast<uint64_t>(*value);
}

absl::StatusOr<std::optional<double>> Gguf::Real(const std::string& key) const {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return std::nullopt;
  const auto* value = std::get_if<double>(&found->second);
  if (value == nullptr) return WrongKind(key);
  return *value;
}

absl::StatusOr<std::optional<bool>> Gguf::Flag(const std::string& key) const {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return std::nullopt;
  const auto* value = std::get_if<bool>(&found->second);
  if (value == nullptr) return WrongKind(key);
  return *value;
}

template <typename List>
absl::StatusOr<List> Gguf::ListOf(const std::string& key) const {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return List();
  const auto* list = std::get_if<List>(&found->second);
  if (list == nullptr) return WrongKind(key);
  return *list;
}
template absl::StatusOr<std::vector<int64_t>> Gguf::ListOf(const std::string&) const;
template absl::StatusOr<std::vector<double>> Gguf::ListOf(const std::string&) const;
template absl::StatusOr<std::vector<std::string>> Gguf::ListOf(const std::string&) const;

absl::StatusOr<Gguf> ReadGguf(absl::Span<const std::byte> bytes) {
  Reader in(bytes);
  if (in.Take<uint32_t>() != 0x46554747) return Bad("the file does not begin with GGUF");
  const auto version = in.Take<uint32_t>();
  if (version != 2 && version != 3) {
    return Bad(absl::StrCat("version ", version, " is not supported; supported are 2 and 3, little endian"));
  }
  const auto tensor_count = in.Take<uint64_t>(), value_count = in.Take<uint64_t>();
  Gguf gguf;
  for (uint64_t i = 0; i < value_count; ++i) {
    const std::string key = in.TakeString();
    EBB_ASSIGN_OR_RETURN(GgufValue value, TakeValue(in, key));
    if (!in.ok()) return Bad("the file ends inside its metadata");
    if (!gguf.metadata.emplace(key, std::move(value)).second) return Bad(absl::StrCat("the key ", Quoted(key), " is there twice"));
  }
  std::vector<TensorInfo> infos;
  for (uint64_t i = 0; i < tensor_count; ++i) {
    EBB_ASSIGN_OR_RETURN(TensorInfo info, TakeTensorInfo(in));
    infos.push_back(std::move(info));
  }
  if (!in.ok()) return Bad("the file ends inside its header");
  EBB_ASSIGN_OR_RETURN(const uint64_t alignment, Alignment(gguf));
  const uint64_t start = (in.offset() + alignment - 1) / alignment * alignment;
  if (start > bytes.size()) return Bad("the file ends before its tensors");
  EBB_RETURN_IF_ERROR(PlaceTensors(infos, bytes.subspan(start), alignment, gguf));
  return gguf;
}

}  // namespace ebbinghaus::model
