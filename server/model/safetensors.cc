#include "server/model/safetensors.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "server/base/status_macros.h"

namespace ebbinghaus::model {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kMaxDimensions = 8;

absl::Status Bad(const std::string& what) { return absl::InvalidArgumentError(absl::StrCat("safetensors: ", what)); }
// Names come from the file: only their beginning is repeated.
std::string Quoted(const std::string& name) { return absl::StrCat("tensor \"", name.substr(0, 128), "\""); }

struct TypeName {
  const char* name;
  uint64_t bytes;
  std::optional<TensorType> type;
};
constexpr TypeName kTypes[] = {{"F32", 4, TensorType::kF32}, {"F16", 2, TensorType::kF16}, {"BF16", 2, TensorType::kBf16},
                               {"F64", 8, {}},               {"I64", 8, {}},               {"U64", 8, {}},
                               {"I32", 4, {}},               {"U32", 4, {}},               {"I16", 2, {}},
                               {"U16", 2, {}},               {"I8", 1, {}},                {"U8", 1, {}},
                               {"BOOL", 1, {}},              {"F8_E4M3", 1, {}},           {"F8_E5M2", 1, {}}};

const TypeName* FindType(const std::string& name) {
  const auto found = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeName& t) { return name == t.name; });
  return found == std::end(kTypes) ? nullptr : found;
}

struct Entry {
  std::string name;
  StoredTensor tensor;
  std::vector<uint64_t> offsets;
  bool has_type = false, has_shape = false, has_offsets = false;
};

// Takes the header as a stream of events, since a tree of it would cost many times its size, and would hide names that are
// there twice.
class HeaderReader final : public nlohmann::json_sax<Json> {
 public:
  const absl::Status& status() const { return status_; }
  std::vector<Entry>& entries() { return entries_; }

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart) return Go(Place::kTop);
    if (place_ == Place::kEntryStart) return Go(Place::kEntry);
    if (place_ == Place::kMetadataStart) return Go(Place::kMetadata);
    return Fail("an object where none belongs");
  }

  bool key(string_t& name) override {
    if (place_ == Place::kMetadata) return true;
    if (place_ == Place::kTop) {
      if (name == "__metadata__") return Go(Place::kMetadataStart);
      entries_.emplace_back();
      entries_.back().name = std::move(name);
      return Go(Place::kEntryStart);
    }
    Entry& entry = entries_.back();
    if (name == "dtype") return Once(entry.has_type, Place::kType);
    if (name == "shape") return Once(entry.has_shape, Place::kShapeStart);
    if (name == "data_offsets") return Once(entry.has_offsets, Place::kOffsetsStart);
    return Fail("an unknown field");
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::kShapeStart) return Go(Place::kShape);
    if (place_ == Place::kOffsetsStart) return Go(Place::kOffsets);
    return Fail("a list where none belongs");
  }

  bool number_unsigned(number_unsigned_t number) override {
    if (place_ == Place::kShape) {
      std::vector<int64_t>& shape = entries_.back().tensor.shape;
      if (number > (uint64_t{1} << 40) || shape.size() == kMaxDimensions) {
        return Fail("a shape that is too large or has too many dimensions");
      }
      shape.push_back(static_cast<int64_t>(number));
      return true;
    }
    if (place_ != Place::kOffsets) return Fail("a number where none belongs");
    entries_.back().offsets.push_back(number);
    return entries_.back().offsets.size() <= 2 || Fail("data_offsets of more than two numbers");
  }

  bool string(string_t& text) override {
    if (place_ == Place::kMetadata) return true;
    if (place_ != Place::kType) return Fail("a string where none belongs");
    entries_.back().tensor.type_name = text.substr(0, 32);
    return Go(Place::kEntry);
  }

  bool end_array() override { return Go(Place::kEntry); }

  bool end_object() override {
    if (place_ == Place::kTop) return Go(Place::kEnd);
    if (place_ == Place::kMetadata) return Go(Place::kTop);
    const Entry& entry = entries_.back();
    if (!entry.has_type || !entry.has_shape || entry.offsets.size() != 2) return Fail("no dtype, shape or data_offsets");
    return Go(Place::kTop);
  }

  bool null() override { return Fail("a null where none belongs"); }
  bool boolean(bool) override { return Fail("a boolean where none belongs"); }
  bool number_integer(number_integer_t) override { return Fail("a negative number"); }
  bool number_float(number_float_t, const string_t&) override { return Fail("a fraction"); }
  bool binary(binary_t&) override { return Fail("bytes where none belong"); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    status_ = Bad(absl::StrCat("the header is not valid JSON at byte ", position));
    return false;
  }

 private:
  enum class Place {
    kStart, kTop, kMetadataStart, kMetadata, kEntryStart, kEntry, kType, kShapeStart, kShape, kOffsetsStart, kOffsets, kEnd
  };

  bool Go(Place place) {
    place_ = place;
    return true;
  }
  bool Once(bool& seen, Place place) { return std::exchange(seen, true) ? Fail("a field twice") : Go(place); }
  bool Fail(const std::string& what) {
    status_ = Bad(entries_.empty() ? absl::StrCat("the header has ", what)
                                   : absl::StrCat(Quoted(entries_.back().name), " has ", what));
    return false;
  }

  Place place_ = Place::kStart;
  std::vector<Entry> entries_;
  absl::Status status_;
};

// Bytes of the tensor by its type and shape; nullopt for unknown types. Errors: it is too large.
absl::StatusOr<std::optional<uint64_t>> ExpectedBytes(const Entry& entry) {
  const TypeName* type = FindType(entry.tensor.type_name);
  if (type == nullptr) return std::nullopt;
  uint64_t bytes = type->bytes;
  for (int64_t extent : entry.tensor.shape) {
    if (extent > 0 && bytes > std::numeric_limits<uint64_t>::max() / static_cast<uint64_t>(extent)) {
      return Bad(absl::StrCat(Quoted(entry.name), " is too large"));
    }
    bytes *= static_cast<uint64_t>(extent);
  }
  return bytes;
}

absl::Status PlaceTensors(std::vector<Entry>& entries, absl::Span<const std::byte> data) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.offsets < b.offsets; });
  uint64_t end = 0;
  for (Entry& entry : entries) {
    const uint64_t first = entry.offsets[0], last = entry.offsets[1];
    if (first != end || last < first) {
      return Bad(absl::StrCat(Quoted(entry.name), ": data_offsets [", first, ", ", last, "] leave a hole, overlap or are reversed"));
    }
    if (last > data.size()) {
      return Bad(absl::StrCat(Quoted(entry.name), " ends at byte ", last, " of ", data.size(), "; the file may be truncated"));
    }
    EBB_ASSIGN_OR_RETURN(const std::optional<uint64_t> expected, ExpectedBytes(entry));
    if (expected && *expected != last - first) {
      return Bad(absl::StrCat(Quoted(entry.name), " has ", last - first, " bytes, but its shape and type make ", *expected));
    }
    if (const TypeName* type = FindType(entry.tensor.type_name)) entry.tensor.type = type->type;
    if (entry.tensor.type) entry.tensor.data = data.subspan(first, last - first);
    end = last;
  }
  if (end != data.size()) return Bad(absl::StrCat("the tensors end at byte ", end, " of ", data.size()));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::map<std::string, StoredTensor>> ListSafetensors(absl::Span<const std::byte> bytes) {
  uint64_t header_size = 0;
  if (bytes.size() < sizeof header_size) return Bad("the file ends before its header");
  std::memcpy(&header_size, bytes.data(), sizeof header_size);
  if (header_size > kMaxHeaderBytes) return Bad(absl::StrCat("a header of ", header_size, " bytes is more than the format allows"));
  if (header_size > bytes.size() - sizeof header_size) return Bad("the header is longer than the file");
  const char* text = reinterpret_cast<const char*>(bytes.data()) + sizeof header_size;
  if (header_size == 0 || text[0] != '{') return Bad("the header does not begin with {");
  HeaderReader reader;
  if (!Json::sax_parse(text, text + header_size, &reader)) {
    return reader.status().ok() ? Bad("the header cannot be read") : reader.status();
  }
  EBB_RETURN_IF_ERROR(PlaceTensors(reader.entries(), bytes.subspan(sizeof header_size + header_size)));
  std::map<std::string, StoredTensor> tensors;
  for (Entry& entry : reader.entries()) {
    const std::string name = Quoted(entry.name);
    if (!tensors.emplace(std::move(entry.name), std::move(entry.tensor)).second) return Bad(absl::StrCat(name, " is there twice"));
  }
  return tensors;
}

absl::StatusOr<std::map<std::string, TensorView>> ReadSafetensors(absl::Span<const std::byte> bytes) {
  EBB_ASSIGN_OR_RETURN(auto stored, ListSafetensors(bytes));
  std::map<std::string, TensorView> views;
  for (auto& [name, tensor] : stored) {
    EBB_ASSIGN_OR_RETURN(TensorView view, ViewOf(tensor, name));
    views.emplace(name, std::move(view));
  }
  return views;
}

}  // namespace ebbinghaus::model
