#include "server/model/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace ebbinghaus::model {
namespace {

// The specification allows 65,535 bytes for a key and 64 for a tensor's name.
constexpr uint64_t kMaxKeyBytes = 65535, kMaxNameBytes = 1024;
// Far above any file there is (a vocabulary of 2^22 tokens has some 2^24 entries in its lists), so that a directory never
// costs more than some hundreds of megabytes, however large the file.
constexpr uint64_t kMaxStringBytes = uint64_t{64} << 20, kMaxMetadataBytes = uint64_t{512} << 20;
constexpr uint64_t kMaxListEntries = uint64_t{1} << 24, kMaxTensors = uint64_t{1} << 20;
constexpr uint32_t kMaxDimensions = 4;
constexpr uint64_t kMaxAlignment = 1 << 20;
constexpr uint64_t kMaxExtent = uint64_t{1} << 40;

absl::Status Bad(const std::string& what) { return absl::InvalidArgumentError(absl::StrCat("GGUF: ", what)); }
// Names come from the file: only their beginning is repeated.
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
    if (!ok_ || left() < sizeof value) {
      ok_ = false;
    } else {
      std::memcpy(&value, bytes_.data() + offset_, sizeof value);
      offset_ += sizeof value;
    }
    return value;
  }

  std::string TakeString(uint64_t limit = kMaxStringBytes) {
    const auto length = Take<uint64_t>();
    if (!ok_ || length > left() || length > limit) {
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
    case kBool:
    case kU8: return in.Take<uint8_t>();
    case kI8: return in.Take<int8_t>();
    case kU16: return in.Take<uint16_t>();
    case kI16: return in.Take<int16_t>();
    case kU32: return in.Take<uint32_t>();
    case kI32: return in.Take<int32_t>();
    default: return in.Take<int64_t>();
  }
}

absl::StatusOr<GgufValue> TakeList(Reader& in, const std::string& key) {
  const auto type = in.Take<uint32_t>();
  const auto count = in.Take<uint64_t>();
  if (!in.ok()) return Bad("the file ends inside its metadata");
  const size_t least = LeastBytes(type);
  if (type == kArray) return Bad(absl::StrCat(Quoted(key), " is a list of lists, which is not supported"));
  if (least == 0) return Bad(absl::StrCat("the list ", Quoted(key), " has elements of the unknown type ", type));
  if (count > in.left() / least) return Bad(absl::StrCat("the list ", Quoted(key), " does not fit in the file"));
  if (count > kMaxListEntries) {
    return Bad(absl::StrCat("the list ", Quoted(key), " has ", count, " entries, but may have ", kMaxListEntries, " at most"));
  }
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
    case kBool: {
      const auto flag = in.Take<uint8_t>();
      if (flag > 1) return Bad(absl::StrCat(Quoted(key), " is neither true nor false"));
      return flag == 1;
    }
    default: return Bad(absl::StrCat("the value of ", Quoted(key), " has the unknown type ", type));
  }
}

struct TypeName {
  uint32_t number;
  const char* name;
  std::optional<TensorType> type;
};
// The numbers of ggml_type. Those that are not read are named so that a message can name them.
constexpr TypeName kTypes[] = {{0, "F32", TensorType::kF32},   {1, "F16", TensorType::kF16},   {2, "Q4_0", TensorType::kQ4_0},
                               {3, "Q4_1", TensorType::kQ4_1}, {6, "Q5_0", TensorType::kQ5_0}, {7, "Q5_1", TensorType::kQ5_1},
                               {8, "Q8_0", TensorType::kQ8_0}, {12, "Q4_K", TensorType::kQ4K}, {13, "Q5_K", TensorType::kQ5K},
                               {14, "Q6_K", TensorType::kQ6K}, {30, "BF16", TensorType::kBf16}, {9, "Q8_1", {}},
                               {10, "Q2_K", {}},               {11, "Q3_K", {}},               {15, "Q8_K", {}},
                               {16, "IQ2_XXS", {}},            {17, "IQ2_XS", {}},             {18, "IQ3_XXS", {}},
                               {19, "IQ1_S", {}},              {20, "IQ4_NL", {}},             {21, "IQ3_S", {}},
                               {22, "IQ2_S", {}},              {23, "IQ4_XS", {}},             {24, "I8", {}},
                               {25, "I16", {}},                {26, "I32", {}},                {27, "I64", {}},
                               {28, "F64", {}},                {29, "IQ1_M", {}},              {34, "TQ1_0", {}},
                               {35, "TQ2_0", {}},              {39, "MXFP4", {}}};

struct TensorInfo {
  std::string name;
  StoredTensor tensor;
  uint64_t offset = 0, size = 0;  // from the start of the data; size 0: not known
};

void SetType(uint32_t number, StoredTensor& tensor) {
  const auto known = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeName& t) { return t.number == number; });
  tensor.type_name = known == std::end(kTypes) ? absl::StrCat("number ", number) : known->name;
  if (known != std::end(kTypes)) tensor.type = known->type;
}

absl::StatusOr<TensorInfo> TakeTensorInfo(Reader& in) {
  TensorInfo info;
  info.name = in.TakeString(kMaxNameBytes);
  const auto dimensions = in.Take<uint32_t>();
  if (!in.ok()) return Bad("the file ends inside its list of tensors, or a name there is too long");
  if (dimensions > kMaxDimensions) {
    return Bad(absl::StrCat("tensor ", Quoted(info.name), " has ", dimensions, " dimensions, but may have ", kMaxDimensions, " at most"));
  }
  info.tensor.shape.resize(std::max(dimensions, 1u), 1);  // without dimensions: one value
  for (uint32_t i = dimensions; i-- > 0;) {  // the file counts from the innermost
    const auto extent = in.Take<uint64_t>();
    if (!in.ok()) return Bad("the file ends inside its list of tensors");
    if (extent > kMaxExtent) {
      return Bad(absl::StrCat("tensor ", Quoted(info.name), " has a dimension of ", extent, ", which is above ", kMaxExtent));
    }
    info.tensor.shape[i] = static_cast<int64_t>(extent);
  }
  SetType(in.Take<uint32_t>(), info.tensor);
  info.offset = in.Take<uint64_t>();
  if (!in.ok()) return Bad("the file ends inside its list of tensors");
  if (!info.tensor.type) return info;
  const std::optional<uint64_t> size = TensorBytes(*info.tensor.type, info.tensor.shape);
  if (!size) {
    return Bad(absl::StrCat("tensor ", Quoted(info.name), ": its innermost dimension of ", info.tensor.shape.back(),
                            " is no multiple of the blocks of ", info.tensor.type_name, ", or the tensor is too large"));
  }
  info.size = *size;
  return info;
}

absl::Status PlaceTensors(std::vector<TensorInfo>& infos, absl::Span<const std::byte> data, uint64_t alignment, Gguf& gguf) {
  std::sort(infos.begin(), infos.end(), [](const TensorInfo& a, const TensorInfo& b) { return std::tie(a.offset, a.size) < std::tie(b.offset, b.size); });
  uint64_t end = 0;
  for (TensorInfo& info : infos) {
    const std::string name = Quoted(info.name);
    if (info.offset % alignment != 0) return Bad(absl::StrCat("tensor ", name, " is not aligned to ", alignment, " bytes"));
    if (info.offset < end) return Bad(absl::StrCat("tensor ", name, " overlaps the one before it"));
    if (info.offset > data.size() || info.size > data.size() - info.offset) {
      return Bad(absl::StrCat("tensor ", name, " lies outside the file, which may be truncated"));
    }
    // One of unknown type takes at least a byte, so that two cannot share a place.
    end = info.offset + (info.tensor.type ? info.size : 1);
    info.tensor.data = data.subspan(info.offset, info.size);
    if (!gguf.tensors.emplace(std::move(info.name), std::move(info.tensor)).second) {
      return Bad(absl::StrCat("tensor ", name, " is there twice"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> Alignment(const GgufMetadata& metadata) {
  EBB_ASSIGN_OR_RETURN(const auto alignment, metadata.Integer("general.alignment"));
  const auto value = static_cast<uint64_t>(alignment.value_or(32));
  if (!std::has_single_bit(value) || value > kMaxAlignment) {
    return metadata.Wrong("general.alignment", absl::StrCat("must be a power of two up to ", kMaxAlignment));
  }
  return value;
}

absl::Status CheckVersion(uint32_t version) {
  if (version == 2 || version == 3) return absl::OkStatus();
  if (version != 0 && (version & 0xffff) == 0) return Bad("the file is big endian; supported is little endian");
  return Bad(absl::StrCat("version ", version, " is not supported; supported are 2 and 3"));
}

}  // namespace

absl::StatusOr<Gguf> ReadGguf(absl::Span<const std::byte> bytes) {
  constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
  Reader in(bytes);
  if (in.Take<uint32_t>() != kMagic) return Bad("the file does not begin with the letters GGUF");
  EBB_RETURN_IF_ERROR(CheckVersion(in.Take<uint32_t>()));
  const auto tensor_count = in.Take<uint64_t>(), value_count = in.Take<uint64_t>();
  if (!in.ok()) return Bad("the file ends inside its header");
  Gguf gguf;
  for (uint64_t i = 0; i < value_count; ++i) {
    std::string key = in.TakeString(kMaxKeyBytes);
    EBB_ASSIGN_OR_RETURN(GgufValue value, TakeValue(in, key));
    if (!in.ok()) return Bad("the file ends inside its metadata, or a text there is too long");
    if (in.offset() > kMaxMetadataBytes) {
      return Bad(absl::StrCat("the metadata takes more than ", kMaxMetadataBytes, " bytes"));
    }
    if (!gguf.metadata.Add(key, std::move(value))) return Bad(absl::StrCat("the key ", Quoted(key), " is there twice"));
  }
  if (tensor_count > kMaxTensors) return Bad(absl::StrCat("claims ", tensor_count, " tensors, but may have ", kMaxTensors, " at most"));
  std::vector<TensorInfo> infos;
  for (uint64_t i = 0; i < tensor_count; ++i) {
    EBB_ASSIGN_OR_RETURN(TensorInfo info, TakeTensorInfo(in));
    infos.push_back(std::move(info));
  }
  EBB_ASSIGN_OR_RETURN(const uint64_t alignment, Alignment(gguf.metadata));
  const uint64_t start = (in.offset() + alignment - 1) / alignment * alignment;
  if (start > bytes.size()) {
    // The padding after the header may be left out where nothing follows.
    if (infos.empty()) return gguf;
    return Bad("the file ends before its tensors");
  }
  EBB_RETURN_IF_ERROR(PlaceTensors(infos, bytes.subspan(start), alignment, gguf));
  return gguf;
}

}  // namespace ebbinghaus::model
