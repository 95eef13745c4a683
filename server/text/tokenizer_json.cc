// Tokenizer::FromJson: vocabulary, merges and added tokens of a tokenizer.json.
#include <cstdint>
#include <limits>
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

// The token at `id` becomes `text`. `tokens` grows to `limit` entries at most; an entry is taken
// once.
class TokenTable {
 public:
  explicit TokenTable(size_t limit) : tokens_(limit), taken_(limit) {}

  absl::Status Put(const Json& id, const std::string& text, std::string_view where) {
    if (!id.is_number_unsigned())
      return Malformed(where, Concat({"the id of ", Quoted(text), " is no id"}));
    const uint64_t value = id.get<uint64_t>();
    if (value >= tokens_.size()) {
      return Malformed(where, Concat({"the id ", std::to_string(value), " of ", Quoted(text),
                                      " leaves holes: there are only ",
                                      std::to_string(tokens_.size()), " tokens"}));
    }
    if (taken_[value]) {
      return Malformed(where, Concat({"the id ", std::to_string(value), " is given to both ",
                                      Quoted(tokens_[value]), " and ", Quoted(text)}));
    }
    tokens_[value] = text;
    taken_[value] = true;
    ++count_;
    return absl::OkStatus();
  }

  // Errors: InvalidArgument when ids are left out below the largest.
  absl::StatusOr<std::vector<std::string>> Take() {
    for (size_t id = 0; id < count_; ++id) {
      if (!taken_[id])
        return Malformed("model.vocab", Concat({"no token has the id ", std::to_string(id)}));
    }
    tokens_.resize(count_);
    return std::move(tokens_);
  }

 private:
  std::vector<std::string> tokens_;
  std::vector<bool> taken_;
  size_t count_ = 0;
};

absl::StatusOr<AddedToken> ParseAddedToken(const Json& json) {
  constexpr std::string_view kWhere = "added_tokens";
  AddedToken token;
  EBB_ASSIGN_OR_RETURN(token.content, StringField(json, "content", kWhere));
  if (token.content.empty()) {
    return Malformed(kWhere, "an empty content");
  }
  const Json* id = Field(json, "id");
  if (id == nullptr || !id->is_number_unsigned() ||
      id->get<uint64_t>() >= std::numeric_limits<TokenId>::max()) {
    return Malformed(kWhere, Concat({Quoted(token.content), " has no valid id"}));
  }
  token.id = id->get<TokenId>();
  EBB_ASSIGN_OR_RETURN(token.single_word, BoolField(json, "single_word", false, kWhere));
  EBB_ASSIGN_OR_RETURN(token.lstrip, BoolField(json, "lstrip", false, kWhere));
  EBB_ASSIGN_OR_RETURN(token.rstrip, BoolField(json, "rstrip", false, kWhere));
  EBB_ASSIGN_OR_RETURN(token.special, BoolField(json, "special", false, kWhere));
  EBB_ASSIGN_OR_RETURN(token.normalized, BoolField(json, "normalized", !token.special, kWhere));
  return token;
}

// Fills tokens, matchable and added from the vocabulary and the added tokens beyond it.
absl::Status ReadTokens(const Json& vocabulary, const Json* added,
                        TokenizerDefinition& definition) {
  if (added != nullptr && !added->is_array()) return Malformed("added_tokens", "no array");
  TokenTable table(vocabulary.size() + (added == nullptr ? 0 : added->size()));
  for (const auto& [text, id] : vocabulary.items()) {
    EBB_RETURN_IF_ERROR(table.Put(id, text, "model.vocab"));
  }
  if (added != nullptr) {
    std::unordered_map<std::string, TokenId> seen;
    for (const Json& json : *added) {
      EBB_ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(json));
      const auto known = vocabulary.find(token.content);
      const auto [again, fresh] = seen.emplace(token.content, token.id);
      if ((known != vocabulary.end() && *known != token.id) || again->second != token.id) {
        return Malformed("added_tokens", Concat({Quoted(token.content), " has two ids"}));
      }
      if (!fresh) continue;
      if (known == vocabulary.end()) {
        EBB_RETURN_IF_ERROR(table.Put(*Field(json, "id"), token.content, "added_tokens"));
      }
      definition.added.push_back(std::move(token));
    }
  }
  EBB_ASSIGN_OR_RETURN(definition.tokens, table.Take());
  // A special token must not come about by merging plain text, nor can a token that only exists
  // beside the vocabulary.
  definition.matchable.assign(definition.tokens.size(), true);
  for (const AddedToken& token : definition.added) {
    if (token.special || !vocabulary.contains(token.content))
      definition.matchable[token.id] = false;
  }
  return absl::OkStatus();
}

absl::Status ReadMerges(const Json& merges, TokenizerDefinition& definition) {
  constexpr std::string_view kWhere = "model.merges";
  if (!merges.is_array()) return Malformed(kWhere, "no array");
  const SpelledTokens ids(definition.tokens);
  definition.merges.reserve(merges.size());
  for (const Json& merge : merges) {
    std::string_view left, right;
    if (merge.is_string()) {
      const std::string& both = merge.get_ref<const std::string&>();
      const size_t space = both.find(' ');
      if (space == std::string::npos || both.find(' ', space + 1) != std::string::npos) {
        return Malformed(kWhere, Concat({Quoted(both), " is not two tokens with a space between"}));
      }
      left = std::string_view(both).substr(0, space);
      right = std::string_view(both).substr(space + 1);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      left = merge[0].get_ref<const std::string&>();
      right = merge[1].get_ref<const std::string&>();
    } else {
      return Malformed(kWhere, "an entry that is neither a string nor a pair of strings");
    }
    const auto rank = static_cast<uint32_t>(definition.merges.size());
    const absl::StatusOr<BpeMerge> resolved = ids.Merge(left, right, rank);
    if (!resolved.ok()) return Malformed(kWhere, std::string(resolved.status().message()));
    definition.merges.push_back(*resolved);
  }
  return absl::OkStatus();
}

// Everything of the model but vocabulary and merges.
absl::Status ReadModelOptions(const Json& model, const TokenizerDefinition& definition,
                              BpeOptions& options) {
  constexpr std::string_view kWhere = "model";
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (Field(model, affix) == nullptr) continue;
    EBB_ASSIGN_OR_RETURN(const std::string value, StringField(model, affix, kWhere));
    if (!value.empty()) return Malformed(kWhere, Concat({affix, " is not supported"}));
  }
  if (const Json* dropout = Field(model, "dropout"); dropout != nullptr && *dropout != 0) {
    return Malformed(kWhere, "dropout is not supported");
  }
  EBB_ASSIGN_OR_RETURN(options.fuse_unknown, BoolField(model, "fuse_unk", false, kWhere));
  EBB_ASSIGN_OR_RETURN(options.byte_fallback, BoolField(model, "byte_fallback", false, kWhere));
  EBB_ASSIGN_OR_RETURN(options.ignore_merges, BoolField(model, "ignore_merges", false, kWhere));
  if (options.byte_fallback && options.byte_level) {
    return Malformed(kWhere, "byte_fallback with a ByteLevel pre-tokenizer is not supported");
  }
  if (Field(model, "unk_token") != nullptr) {
    EBB_ASSIGN_OR_RETURN(const std::string unknown, StringField(model, "unk_token", kWhere));
    for (TokenId id = 0; id < definition.tokens.size(); ++id) {
      if (definition.tokens[id] == unknown) options.unknown = id;
    }
    if (options.unknown == kNoToken) {
      return Malformed(kWhere,
                       Concat({"unk_token ", Quoted(unknown), " is not in the vocabulary"}));
    }
  }
  return absl::OkStatus();
}

absl::Status ReadModel(const Json& root, TokenizerDefinition& definition) {
  const Json* model = Field(root, "model");
  if (model == nullptr || !model->is_object()) return Malformed("model", "missing or no object");
  const Json* vocabulary = Field(*model, "vocab");
  const Json* merges = Field(*model, "merges");
  std::string type = "BPE";  // old files do not say
  if (Field(*model, "type") != nullptr) {
    EBB_ASSIGN_OR_RETURN(type, StringField(*model, "type", "model"));
  }
  if (type != "BPE") {
    return Malformed("model",
                     Concat({"the type ", Quoted(type), " is not supported; supported is BPE"}));
  }
  if (vocabulary == nullptr || !vocabulary->is_object() || merges == nullptr) {
    return Malformed("model", "a BPE model without the object vocab or without merges");
  }
  EBB_RETURN_IF_ERROR(ReadTokens(*vocabulary, Field(root, "added_tokens"), definition));
  if (definition.tokens.empty()) return Malformed("model", "the vocabulary is empty");
  EBB_RETURN_IF_ERROR(ReadMerges(*merges, definition));
  return ReadModelOptions(*model, definition, definition.bpe);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::FromJson(std::string_view json) {
  if (json.size() > kMaxJsonBytes) return Malformed("file", "larger than 64 MiB");
  if (IsTooDeep(json)) return Malformed("file", "nested more than 64 levels deep");
  const Json root = Json::parse(json.begin(), json.end(), nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) return Malformed("file", "no JSON object");

  TokenizerDefinition definition;
  EBB_ASSIGN_OR_RETURN(auto normalizer, ParseNormalizer(Field(root, "normalizer")));
  EBB_ASSIGN_OR_RETURN(auto pre_tokenizer, ParsePreTokenizer(Field(root, "pre_tokenizer")));
  EBB_ASSIGN_OR_RETURN(definition.decoder, ParseDecoder(Field(root, "decoder")));
  if (definition.decoder.byte_level != pre_tokenizer.byte_level) {
    return Malformed("decoder", "pre_tokenizer and decoder do not agree on ByteLevel");
  }
  definition.normalizer = Normalizer(std::move(normalizer));
  definition.pre_tokenizer = PreTokenizer(std::move(pre_tokenizer.steps));
  definition.bpe.byte_level = pre_tokenizer.byte_level;
  EBB_RETURN_IF_ERROR(ReadModel(root, definition));
  EBB_RETURN_IF_ERROR(ParsePostProcessor(Field(root, "post_processor"), definition));
  return MakeTokenizer(std::move(definition));
}

}  // namespace ebbinghaus::text
