// A template of the Jinja language, and after a zero byte a JSON object whose members are added to the variables of
// tests/golden/chat_template/constructs.json, all of which a caller wrote.
#include <fstream>
#include <iterator>
#include <string>

#include "nlohmann/json.hpp"
#include "server/base/check.h"
#include "server/jinja/budget.h"
#include "server/jinja/template.h"
#include "tests/fuzz/support.h"
#include "tests/support/json_values.h"

namespace ebbinghaus::jinja {
namespace {

using Json = nlohmann::ordered_json;

// In a caller's text and, unless the template makes it itself, nowhere else: wherever it turns up is a caller's text.
constexpr std::string_view kMark = "\xe2\x98\x82";

const Json& Variables() {
  static const Json* const variables = [] {
    std::ifstream file(EBBINGHAUS_SOURCE_DIR "/tests/golden/chat_template/constructs.json", std::ios::binary);
    auto* read = new Json(Json::parse(std::string(std::istreambuf_iterator<char>(file), {}))["variables"]);
    (*read)["messages"][1]["content"] = std::string(kMark) + " Hello <s> " + std::string(kMark);
    return read;
  }();
  return *variables;
}

// By an escape, an entity or a format.
bool MayMakeTheMark(std::string_view source) {
  if (source.find_first_of("\\&") != source.npos || source.find(kMark) != source.npos) return true;
  if (source.find("format") != source.npos) return true;
  for (size_t i = 0; i < source.size(); ++i) {
    const bool tag = (i > 0 && source[i - 1] == '{') || (i + 1 < source.size() && source[i + 1] == '}');
    if (source[i] == '%' && !tag) return true;
  }
  return false;
}

void CheckMarks(const Text& text) {
  for (size_t at = text.bytes().find(kMark); at != std::string::npos; at = text.bytes().find(kMark, at + 1)) {
    for (size_t i = 0; i < kMark.size(); ++i) EBB_CHECK(text.marked(at + i));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto [source, more] = fuzz::SplitAtZero(fuzz::AsText(data, size));
  const absl::StatusOr<Template> parsed = Template::Parse(source);
  if (!parsed.ok()) {
    EBB_CHECK(parsed.status().message().size() < 4096);
    return 0;
  }
  Json json = Variables();
  const Json added = Json::parse(more, nullptr, /*allow_exceptions=*/false);
  if (added.is_object() && added.size() < 20) json.update(added);
  const Value ours = testing::JsonValue(json), theirs = testing::JsonValue(json, /*from_caller=*/true);
  constexpr std::time_t kNow = 1'700'000'000;
  const fuzz::PeakMemory memory;
  const absl::StatusOr<Text> text = parsed->Render(*theirs.dict(), kNow);
  EBB_CHECK(memory.bytes() <= 2 * Budget::kMaxMemory);
  if (!text.ok()) {
    EBB_CHECK(text.status().message().size() < 4096);
    EBB_CHECK(added.is_object() || std::string(text.status().message()).find(kMark) == std::string::npos || MayMakeTheMark(source));
    return 0;
  }
  EBB_CHECK(IsValidUtf8(text->bytes()));
  if (source.find("random") == source.npos) {  // whoever wrote the variables, it is the same text
    const absl::StatusOr<Text> same = parsed->Render(*ours.dict(), kNow);
    EBB_CHECK(same.ok() && same->bytes() == text->bytes());
  }
  if (!added.is_object() && !MayMakeTheMark(source)) CheckMarks(*text);
  return 0;
}

}  // namespace ebbinghaus::jinja
