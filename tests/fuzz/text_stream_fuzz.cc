// The text of one generation, token by token, with stop strings: the parts joined are the whole text up to the first stop
// string, and each part is valid UTF-8.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "server/base/check.h"
#include "server/scheduler/output_text.h"
#include "server/text/unicode.h"
#include "tests/support/byte_tokenizer.h"

namespace ebbinghaus::scheduler {
namespace {

using Tokenizers = std::vector<std::shared_ptr<const text::Tokenizer>>;

std::string ReadFile(const std::filesystem::path& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// Those of the golden files, and one whose tokens are bytes.
const Tokenizers& AllTokenizers() {
  static const Tokenizers* const all = [] {
    const std::filesystem::path golden = std::filesystem::path(EBBINGHAUS_SOURCE_DIR) / "tests/golden";
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(golden / "tokenizer/fixtures")) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    auto* tokenizers = new Tokenizers{std::make_shared<support::ByteTokenizer>()};
    for (const std::filesystem::path& file : files) {
      const auto json = nlohmann::json::parse(ReadFile(file));
      if (!json.is_object() || json.value("kind", "") != "json") continue;
      auto tokenizer = text::Tokenizer::FromJson(json["definition"].dump());
      EBB_CHECK(tokenizer.ok());
      tokenizers->push_back(*std::move(tokenizer));
    }
    EBB_CHECK(tokenizers->size() > 10);
    return tokenizers;
  }();
  return *all;
}

struct WholeText {
  std::string unsearched;  // before the token from which stop strings count
  std::string searched;    // from it on
  std::string named;       // the same with the names of special tokens, which are never given out
  std::vector<size_t> visible_before;  // by byte of `named`: how many bytes of `searched` come before it
};

// What follows the prompt, each token added without a short cut.
WholeText Decode(const text::Tokenizer& tokenizer, const std::vector<base::TokenId>& prompt,
                 const std::vector<base::TokenId>& ids, size_t unsearched_tokens) {
  text::TokenDecoder decoder(&tokenizer, /*skip_special=*/true);
  for (const base::TokenId id : prompt) decoder.Add(id);
  WholeText whole;
  const auto append = [&](std::string_view text, bool visible) {
    for (const char c : text) {
      whole.visible_before.push_back(whole.searched.size());
      whole.named += c;
      if (visible) whole.searched += c;
    }
  };
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::string text = decoder.Add(ids[i]);
    if (i < unsearched_tokens) {
      whole.unsearched += text;
    } else if (ids[i] < tokenizer.size() && tokenizer.IsSpecial(ids[i])) {
      append(tokenizer.Piece(ids[i]), false);
    } else {
      append(text, true);
    }
  }
  append(decoder.Finish(), true);
  return whole;
}

// How much of whole.searched comes before the stop string, in the text with or without names; npos if it is in neither.
size_t BytesBefore(const WholeText& whole, const std::string& stop) {
  if (stop.empty()) return std::string::npos;
  const size_t named = whole.named.find(stop);
  return std::min(whole.searched.find(stop), named == std::string::npos ? named : whole.visible_before[named]);
}

std::vector<std::string> ReadStops(FuzzedDataProvider& in, const std::string& text) {
  std::vector<std::string> stops;
  for (int i = in.ConsumeIntegralInRange(0, 4); i > 0; --i) {
    if (in.ConsumeBool() && !text.empty()) {
      const size_t at = in.ConsumeIntegralInRange<size_t>(0, text.size() - 1);
      stops.push_back(text.substr(at, in.ConsumeIntegralInRange<size_t>(1, 12)));
    } else {
      stops.push_back(in.ConsumeRandomLengthString(6));
    }
    if (!text::IsValidUtf8(stops.back())) stops.pop_back();  // admission refuses those
  }
  return stops;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider in(data, size);
  const auto& tokenizers = AllTokenizers();
  const auto& tokenizer = tokenizers[in.ConsumeIntegralInRange<size_t>(0, tokenizers.size() - 1)];
  std::vector<base::TokenId> ids(in.ConsumeIntegralInRange<size_t>(0, 40));
  for (base::TokenId& id : ids) id = in.ConsumeIntegralInRange<base::TokenId>(0, tokenizer->size() + 1);
  const auto unsearched = in.ConsumeBool() ? 0 : in.ConsumeIntegralInRange<uint32_t>(0, 41);
  std::vector<base::TokenId> prompt(in.ConsumeBool() ? 0 : in.ConsumeIntegralInRange<size_t>(0, 80));
  for (base::TokenId& id : prompt) id = in.ConsumeIntegralInRange<base::TokenId>(0, tokenizer->size() + 1);
  const WholeText whole = Decode(*tokenizer, prompt, ids, unsearched);
  const std::vector<std::string> stops = ReadStops(in, whole.unsearched + whole.named);

  OutputText output(tokenizer, stops, unsearched, prompt);
  std::string joined;
  const auto take = [&](const std::string& part) {
    EBB_CHECK(text::IsValidUtf8(part));
    joined += part;
  };
  for (const base::TokenId id : ids) take(output.Add(id));
  take(output.Finish());

  size_t end = std::string::npos;
  for (const std::string& stop : stops) end = std::min(end, BytesBefore(whole, stop));
  EBB_CHECK(joined == whole.unsearched + whole.searched.substr(0, end));
  EBB_CHECK(output.matched_stop().has_value() == (end != std::string::npos));
  if (output.matched_stop()) EBB_CHECK(BytesBefore(whole, *output.matched_stop()) == end);
  return 0;
}

}  // namespace ebbinghaus::scheduler
