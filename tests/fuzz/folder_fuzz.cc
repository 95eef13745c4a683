// A Hugging Face folder as one JSON object: each member is a file of that name. A member NAME.safetensors holds the header; the
// data that it speaks of is zeros. What can be opened is read to the end.
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "server/base/check.h"
#include "server/model/checkpoint.h"
#include "server/model/dequantize.h"
#include "server/model/text_loader.h"
#include "tests/fuzz/support.h"

namespace ebbinghaus::model {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMostData = 1 << 16;

// One folder for the whole process, emptied for each input.
const std::filesystem::path& Folder() {
  static const std::filesystem::path* const folder = [] {
    std::string pattern = (std::filesystem::temp_directory_path() / "fuzz-folder-XXXXXX").string();
    EBB_CHECK(mkdtemp(pattern.data()) != nullptr);
    std::atexit([] { std::filesystem::remove_all(Folder()); });
    return new std::filesystem::path(pattern);
  }();
  return *folder;
}

// The end of the last tensor, as far as the header says.
uint64_t DataBytes(const Json& header) {
  uint64_t end = 0;
  for (const Json& entry : header) {
    if (!entry.is_object() || !entry.contains("data_offsets")) continue;
    for (const Json& offset : entry["data_offsets"]) {
      if (offset.is_number_unsigned()) end = std::max(end, offset.get<uint64_t>());
    }
  }
  return std::min(end, kMostData);
}

std::string ContentOf(const std::string& name, const Json& value) {
  const std::string text = value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (!name.ends_with(".safetensors")) return text;
  const uint64_t size = text.size();
  std::string file(reinterpret_cast<const char*>(&size), sizeof size);
  return file.append(text).append(DataBytes(value), '\0');
}

// Whether all names are those of files. Their sizes are added up.
bool WriteFolder(const Json& files, size_t& bytes) {
  std::filesystem::remove_all(Folder());
  std::filesystem::create_directory(Folder());
  for (const auto& [name, value] : files.items()) {
    if (name.empty() || name.size() > 100 || name[0] == '.' || name.find('/') != name.npos || name.find('\0') != name.npos) return false;
    const std::string content = ContentOf(name, value);
    bytes += content.size();
    std::ofstream(Folder() / name, std::ios::binary) << content;
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Json files = Json::parse(fuzz::AsText(data, size), nullptr, /*allow_exceptions=*/false);
  size_t bytes = 0;
  if (!files.is_object() || !WriteFolder(files, bytes)) return 0;
  const fuzz::PeakMemory memory;
  const auto checkpoint = OpenCheckpoint(Folder().string());
  EBB_CHECK(memory.bytes() <= 256 * bytes + (1 << 20));
  if (!checkpoint.ok()) {
    EBB_CHECK(checkpoint.status().message().size() < 8192);
    return 0;
  }
  for (const TensorRequirement& needed : RequiredTensors((*checkpoint)->config())) {
    const absl::StatusOr<TensorView> view = (*checkpoint)->Find(needed.name, needed.shape);
    EBB_CHECK(view.ok());
    std::vector<float> row(static_cast<size_t>(view->columns()));
    for (int64_t r = 0; r < view->rows(); ++r) DequantizeRows(*view, r, 1, row.data());
  }
  const absl::StatusOr<text::TextModel> text = LoadTextModel(**checkpoint);
  if (text.ok()) EBB_CHECK(text->tokenizer->size() <= (*checkpoint)->config().vocabulary);
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  return fuzz::MutateJson(data, size, max_size, seed);
}

}  // namespace ebbinghaus::model
