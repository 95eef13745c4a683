// Runs the tokenizer for an oracle in another language: tests/golden/tokenizer/oracle_test.py.
//
//   tokenize_lines (--json FILE | --gguf FILE) < requests > answers
//
// --json takes a tokenizer.json, --gguf the metadata of a GGUF file as JSON: {"model", "pre",
// "tokens", "scores", "token_types", "merges", "bos_token_id", ..., "add_bos_token",
// "add_space_prefix"}, the names of GgufVocabulary. A request is a line {"segments": [[text,
// parse_special], ...], "add_special": bool}; its answer is a line
// {"ids": [...], "shown": decoded with special tokens, "plain": without, "streamed": plain through
// TextStream}.
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "server/text/text_stream.h"
#include "server/text/tokenizer.h"

namespace {

using ebbinghaus::text::GgufVocabulary;
using ebbinghaus::text::Tokenizer;
using Json = nlohmann::json;

std::string ReadFile(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

template <typename T>
void Get(const Json& json, const char* key, T& out) {
  if (json.contains(key) && !json[key].is_null()) json[key].get_to(out);
}

template <typename T>
void Get(const Json& json, const char* key, std::optional<T>& out) {
  if (json.contains(key) && !json[key].is_null()) out = json[key].get<T>();
}

GgufVocabulary ReadVocabulary(const std::string& text) {
  const Json json = Json::parse(text);
  GgufVocabulary v;
  Get(json, "model", v.model);
  Get(json, "pre", v.pre);
  Get(json, "tokens", v.tokens);
  Get(json, "scores", v.scores);
  Get(json, "token_types", v.token_types);
  Get(json, "merges", v.merges);
  Get(json, "bos_token_id", v.bos_token_id);
  Get(json, "eos_token_id", v.eos_token_id);
  Get(json, "unknown_token_id", v.unknown_token_id);
  Get(json, "add_bos_token", v.add_bos_token);
  Get(json, "add_eos_token", v.add_eos_token);
  Get(json, "add_space_prefix", v.add_space_prefix);
  Get(json, "remove_extra_whitespaces", v.remove_extra_whitespaces);
  if (json.contains("precompiled_charsmap")) {
    for (const int byte : json["precompiled_charsmap"]) {
      v.precompiled_charsmap.push_back(static_cast<char>(byte));
    }
  }
  return v;
}

Json Answer(const std::shared_ptr<const Tokenizer>& tokenizer, const Json& request) {
  std::vector<ebbinghaus::text::TextSegment> segments;
  for (const Json& segment : request["segments"]) {
    segments.push_back({segment[0].get_ref<const std::string&>(), segment[1].get<bool>()});
  }
  const auto ids = tokenizer->EncodeSegments(segments, request["add_special"].get<bool>());
  ebbinghaus::text::TextStream stream(tokenizer, {});
  std::string streamed;
  for (const auto id : ids) streamed += stream.Add(id);
  streamed += stream.Finish();
  return {{"ids", ids},
          {"shown", tokenizer->Decode(ids, /*skip_special=*/false)},
          {"plain", tokenizer->Decode(ids, /*skip_special=*/true)},
          {"streamed", streamed}};
}

}  // namespace

int main(int argc, char** argv) {
  const std::string kind = argc == 3 ? argv[1] : "";
  if (kind != "--json" && kind != "--gguf") {
    std::cerr << "usage: tokenize_lines (--json FILE | --gguf FILE) < requests\n";
    return 2;
  }
  const std::string text = ReadFile(argv[2]);
  const auto tokenizer =
      kind == "--json" ? Tokenizer::FromJson(text) : Tokenizer::FromGguf(ReadVocabulary(text));
  if (!tokenizer.ok()) {
    std::cerr << tokenizer.status() << "\n";
    return 1;
  }
  std::string line;
  while (std::getline(std::cin, line)) {
    std::cout << Answer(*tokenizer, Json::parse(line)).dump() << "\n";
  }
}
