// Tokenizer::FromJson: the parts of a tokenizer.json put together.
#include <cstdint>
#include <utility>

#include "server/base/status_macros.h"
#include "server/text/tokenizer_json_steps.h"
#include "server/text/tokenizer_strings.h"

namespace ebbinghaus::text {
namespace {

using base::TokenId;

constexpr size_t kMaxJsonBytes = size_t{1} << 26;  // twice the largest known
constexpr int kMaxDepth = 64;

// Checked before parsing, since a parser may recurse.
bool IsTooDeep(std::string_view json) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

TokenId Find(const TokenizerDefinition& definition, std::string_view text) {
  for (const AddedToken& token : definition.added) {
    if (token.content == text) return token.id;
  }
  for (TokenId id = 0; id < definition.tokens.size(); ++id) {
    if (definition.tokens[id] == text) return id;
  }
  return kNoToken;
}

// What the file beside the definition says about the ends of a text goes first. Errors:
// InvalidArgument where it asks for a token that is not there.
absl::Status ApplySettings(const TokenizerSettings& settings, TokenizerDefinition& definition) {
  const auto end_token = [&](const std::optional<bool>& wanted, const std::string& text,
                             std::string_view name, std::vector<TokenId>& place) -> absl::Status {
    if (!wanted.has_value() || (!*wanted && text.empty())) return absl::OkStatus();
    const TokenId id = text.empty() ? kNoToken : Find(definition, text);
    if (!*wanted) {
      std::erase(place, id);
      return absl::OkStatus();
    }
    if (id == kNoToken) {
      return absl::InvalidArgumentError(
          Concat({"tokenizer_config.json: add_", name, "_token is set, but ", name, "_token is ",
                  text.empty() ? std::string("missing") : "not in the vocabulary"}));
    }
    if (std::find(place.begin(), place.end(), id) == place.end()) {
      place.insert(name == "bos" ? place.begin() : place.end(), id);
    }
    return absl::OkStatus();
  };
  EBB_RETURN_IF_ERROR(end_token(settings.add_bos, settings.bos, "bos", definition.prefix));
  EBB_RETURN_IF_ERROR(end_token(settings.add_eos, settings.eos, "eos", definition.suffix));
  if (!definition.prefix.empty()) definition.bos = definition.prefix.front();
  if (!definition.bos.has_value() && !settings.bos.empty()) {
    if (const TokenId id = Find(definition, settings.bos); id != kNoToken) definition.bos = id;
  }
  MarkControlTokens(settings.control_texts, definition);
  LimitTokens(settings.max_tokens, definition);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::FromJson(
    std::string_view json, const TokenizerSettings& settings) {
  if (json.size() > kMaxJsonBytes) return Malformed("file", "larger than 64 MiB");
  if (IsTooDeep(json)) return Malformed("file", "nested more than 64 levels deep");
  const Json root = Json::parse(json.begin(), json.end(), nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) return Malformed("file", "no JSON object");

  TokenizerDefinition definition;
  EBB_ASSIGN_OR_RETURN(auto normalizer, ParseNormalizer(Field(root, "normalizer")));
  EBB_ASSIGN_OR_RETURN(auto pre_tokenizer, ParsePreTokenizer(Field(root, "pre_tokenizer")));
  EBB_ASSIGN_OR_RETURN(definition.decoder, ParseDecoder(Field(root, "decoder")));
  bool byte_level = pre_tokenizer.byte_level;
  EBB_RETURN_IF_ERROR(ParseModel(root, byte_level, definition));
  if (pre_tokenizer.byte_level && !byte_level) pre_tokenizer.steps.emplace_back(SpellBytesStep{});
  definition.normalizer = Normalizer(std::move(normalizer));
  definition.pre_tokenizer = PreTokenizer(std::move(pre_tokenizer.steps));
  EBB_RETURN_IF_ERROR(ParsePostProcessor(Field(root, "post_processor"), definition));
  EBB_RETURN_IF_ERROR(ApplySettings(settings, definition));
  return MakeTokenizer(std::move(definition));
}

}  // namespace ebbinghaus::text
