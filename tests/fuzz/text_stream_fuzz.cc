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
  std::string unsearched, searched;  // before and from the token on from which stop strings count
};

WholeText Decode(const text::Tokenizer& tokenizer, const std::vector<base::TokenId>& ids, size_t unsearched_tokens) {
  text::TokenDecoder decoder(&tokenizer, /*skip_special=*/true);
  WholeText whole;
  for (size_t i = 0; i < ids.size(); ++i) (i < unsearched_tokens ? whole.unsearched : whole.searched) += decoder.Add(ids[i]);
  whole.searched += decoder.Finish();
  return whole;
}

// The stop string that begins first, of those the shortest; nothing if none is in the text.
const std::string* FirstStop(const std::string& text, const std::vector<std::string>& stops, size_t& at) {
  const std::string* first = nullptr;
  for (const std::string& stop : stops) {
    const size_t found = text.find(stop);
    if (stop.empty() || found == text.npos) continue;
    if (first == nullptr || found < at || (found == at && stop.size() < first->size())) {
      first = &stop;
      at = found;
    }
  }
  return first;
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
  const WholeText whole = Decode(*tokenizer, ids, unsearched);
  const std::vector<std::string> stops = ReadStops(in, whole.unsearched + whole.searched);

  OutputText output(tokenizer, stops, unsearched);
  std::string joined;
  const auto take = [&](const std::string& part) {
    EBB_CHECK(text::IsValidUtf8(part));
    joined += part;
  };
  for (const base::TokenId id : ids) take(output.Add(id));
  take(output.Finish());

  size_t at = whole.searched.size();
  const std::string* stop = FirstStop(whole.searched, stops, at);
  EBB_CHECK(joined == whole.unsearched + whole.searched.substr(0, at));
  EBB_CHECK(output.matched_stop().has_value() == (stop != nullptr));
  if (stop != nullptr) EBB_CHECK(*output.matched_stop() == *stop);
  return 0;
}

}  // namespace ebbinghaus::scheduler
