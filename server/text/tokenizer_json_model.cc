// The vocabulary, the model and the added tokens of a tokenizer.json.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <unordered_set>
#include <utility>

#include "server/base/status_macros.h"
#include "server/text/tokenizer_json_steps.h"
#include "server/text/tokenizer_strings.h"

namespace ebbinghaus::text {
namespace {

using base::TokenId;

constexpr std::string_view kWhere = "model";

absl::StatusOr<AddedToken> ParseAddedToken(const Json& json) {
  constexpr std::string_view kWhere = "added_tokens";
  AddedToken token;
  EBB_ASSIGN_OR_RETURN(token.content, StringField(json, "content", kWhere));
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

// Puts a token where its id says, growing the table. Of two with the same id the first names it, and
// both are matched.
void Put(TokenId id, const std::string& text, TokenizerDefinition& definition) {
  auto& tokens = definition.tokens;
  if (id >= tokens.size()) tokens.resize(id + 1);
  if (tokens[id].empty()) {
    tokens[id] = text;
  } else {
    definition.aliases.emplace_back(text, id);
  }
}

// Holes take memory too, so that there may be some more of them than there are tokens, but not many.
absl::StatusOr<TokenId> IdOf(const Json& id, std::string_view text, size_t vocabulary_size) {
  const uint64_t limit = std::min<uint64_t>(kMaxTokens, 4 * vocabulary_size + 1024);
  if (!id.is_number_unsigned() || id.get<uint64_t>() >= limit) {
    return Malformed("model.vocab", Concat({"the id of ", Quoted(text), " is no number below ",
                                            std::to_string(limit)}));
  }
  return id.get<TokenId>();
}

// {"text": id} or, of a unigram model, [["text", score], ...].
absl::Status ReadVocabulary(const Json& vocabulary, std::vector<double>* scores,
                            TokenizerDefinition& definition) {
  if (scores == nullptr) {
    if (!vocabulary.is_object()) return Malformed("model.vocab", "no object");
    for (const auto& [text, id] : vocabulary.items()) {
      EBB_ASSIGN_OR_RETURN(const TokenId parsed, IdOf(id, text, vocabulary.size()));
      Put(parsed, text, definition);
    }
    return absl::OkStatus();
  }
  if (!vocabulary.is_array()) return Malformed("model.vocab", "no array");
  if (vocabulary.size() > kMaxTokens) return Malformed("model.vocab", "too many tokens");
  for (const Json& entry : vocabulary) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      return Malformed("model.vocab", "an entry that is no pair of a text and its score");
    }
    const std::string& text = entry[0].get_ref<const std::string&>();
    if (text.size() > kMaxUnigramBytes) {
      return Malformed("model.vocab", "a token longer than 1,024 bytes");
    }
    definition.tokens.push_back(text);
    scores->push_back(entry[1].get<double>());
  }
  return absl::OkStatus();
}

// Added tokens that the vocabulary lacks are numbered on from its size, as the reference does it
// whatever id the file gives them.
absl::Status ReadAddedTokens(const Json* added, TokenizerDefinition& definition) {
  if (added == nullptr) return absl::OkStatus();
  if (!added->is_array()) return Malformed("added_tokens", "no array");
  const SpelledTokens known(definition, SpelledTokens::Of::kFirst);
  const auto in_vocabulary = static_cast<TokenId>(
      definition.aliases.size() +
      std::count_if(definition.tokens.begin(), definition.tokens.end(),
                    [](const std::string& token) { return !token.empty(); }));
  TokenId next = in_vocabulary;
  std::vector<std::pair<TokenId, std::string>> beyond;
  std::unordered_set<std::string> seen;
  for (const Json& json : *added) {
    EBB_ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(json));
    if (token.content.empty() || !seen.insert(token.content).second) continue;
    const TokenId there = known.Find(token.content);
    token.id = there != kNoToken ? there : next;
    if (token.id >= kMaxTokens) return Malformed("added_tokens", "too many");
    if (token.id >= in_vocabulary) next = std::max(next, token.id + 1);
    if (there == kNoToken) beyond.emplace_back(token.id, token.content);
    definition.added.push_back(std::move(token));
  }
  // `known` is dead from here on. An added token takes its id from a token of the vocabulary.
  for (auto& [id, content] : beyond) {
    if (id >= definition.tokens.size()) definition.tokens.resize(id + 1);
    if (!definition.tokens[id].empty()) definition.aliases.emplace_back(definition.tokens[id], id);
    definition.tokens[id] = std::move(content);
  }
  return absl::OkStatus();
}

// A special token must not come about by merging plain text, nor can a token that only exists beside
// the vocabulary.
absl::Status ReadTokens(const Json& root, const Json& model, std::vector<double>* scores,
                        TokenizerDefinition& definition) {
  const Json* vocabulary = Field(model, "vocab");
  if (vocabulary == nullptr) return Malformed(kWhere, "no vocab");
  EBB_RETURN_IF_ERROR(ReadVocabulary(*vocabulary, scores, definition));
  const size_t vocabulary_size = definition.tokens.size();
  EBB_RETURN_IF_ERROR(ReadAddedTokens(Field(root, "added_tokens"), definition));
  if (definition.tokens.empty()) return Malformed(kWhere, "the vocabulary is empty");
  definition.matchable.assign(definition.tokens.size(), true);
  for (const AddedToken& token : definition.added) {
    const bool beside = token.id >= vocabulary_size ||
                        (vocabulary->is_object() && !vocabulary->contains(token.content));
    if (token.special || beside) definition.matchable[token.id] = false;
  }
  if (scores != nullptr) scores->resize(definition.tokens.size());
  return absl::OkStatus();
}

// kNoToken when the token is not there: what needs it then has none.
absl::StatusOr<TokenId> UnknownToken(const Json& model, const char* otherwise,
                                     const TokenizerDefinition& definition) {
  std::string unknown = otherwise;
  if (Field(model, "unk_token") != nullptr) {
    EBB_ASSIGN_OR_RETURN(unknown, StringField(model, "unk_token", kWhere));
  }
  for (TokenId id = 0; id < definition.tokens.size() && !unknown.empty(); ++id) {
    if (definition.tokens[id] == unknown) return id;
  }
  return kNoToken;
}

absl::Status ReadMerges(const Json& merges, size_t prefix, TokenizerDefinition& definition,
                        std::vector<BpeMerge>& out) {
  constexpr std::string_view kWhere = "model.merges";
  if (!merges.is_array()) return Malformed(kWhere, "no array");
  const SpelledTokens ids(definition, SpelledTokens::Of::kFirst);
  out.reserve(merges.size());
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
    const auto rank = static_cast<uint32_t>(out.size());
    const absl::StatusOr<BpeMerge> resolved = ids.Merge(left, right, prefix, rank);
    if (!resolved.ok()) return Malformed(kWhere, std::string(resolved.status().message()));
    out.push_back(*resolved);
  }
  return absl::OkStatus();
}

// Whether a token exists for every byte of the byte alphabet.
bool SpellsEveryByte(const TokenizerDefinition& definition) {
  std::unordered_set<std::string_view> tokens(definition.tokens.begin(), definition.tokens.end());
  for (int byte = 0; byte < 256; ++byte) {
    std::string spelled;
    AppendByteLevel(std::string(1, static_cast<char>(byte)), spelled);
    if (tokens.count(spelled) == 0) return false;
  }
  return true;
}

// `dropout` belongs to training: encoding here is the same every time.
absl::Status ReadBpe(const Json& root, const Json& model, bool& byte_level,
                     TokenizerDefinition& definition) {
  BpeDefinition bpe;
  BpeOptions& options = bpe.options;
  EBB_RETURN_IF_ERROR(ReadTokens(root, model, nullptr, definition));
  EBB_ASSIGN_OR_RETURN(options.unknown, UnknownToken(model, "", definition));
  EBB_ASSIGN_OR_RETURN(options.fuse_unknown, BoolField(model, "fuse_unk", false, kWhere));
  EBB_ASSIGN_OR_RETURN(options.byte_fallback, BoolField(model, "byte_fallback", false, kWhere));
  EBB_ASSIGN_OR_RETURN(options.ignore_merges, BoolField(model, "ignore_merges", false, kWhere));
  const std::pair<const char*, std::string*> affixes[] = {
      {"continuing_subword_prefix", &options.continuing_prefix},
      {"end_of_word_suffix", &options.word_suffix}};
  for (const auto& [key, affix] : affixes) {
    if (Field(model, key) != nullptr) {
      EBB_ASSIGN_OR_RETURN(*affix, InsertedField(model, key, kWhere));
    }
    if (!affix->empty()) byte_level = false;
  }
  if ((options.byte_fallback || options.unknown != kNoToken) && byte_level) {
    byte_level = SpellsEveryByte(definition);
  }
  options.byte_level = byte_level;
  const Json* merges = Field(model, "merges");
  if (merges == nullptr) return Malformed(kWhere, "a BPE model without merges");
  EBB_RETURN_IF_ERROR(
      ReadMerges(*merges, options.continuing_prefix.size(), definition, bpe.merges));
  definition.model = std::move(bpe);
  return absl::OkStatus();
}

absl::Status ReadUnigram(const Json& root, const Json& model, TokenizerDefinition& definition) {
  constexpr double kUnknownPenalty = 10;
  UnigramOptions options;
  EBB_RETURN_IF_ERROR(ReadTokens(root, model, &options.scores, definition));
  const size_t size = Field(model, "vocab")->size();
  options.unknown_score =
      *std::min_element(options.scores.begin(), options.scores.begin() + std::max<size_t>(size, 1)) -
      kUnknownPenalty;
  EBB_ASSIGN_OR_RETURN(options.byte_fallback, BoolField(model, "byte_fallback", false, kWhere));
  if (Field(model, "unk_id") != nullptr) {
    EBB_ASSIGN_OR_RETURN(options.unknown, CountField(model, "unk_id", 0, kWhere));
    if (options.unknown >= size) return Malformed(kWhere, "unk_id is not in the vocabulary");
  }
  definition.model = std::move(options);
  return absl::OkStatus();
}

absl::Status ReadWords(const Json& root, const Json& model, bool whole_words,
                       TokenizerDefinition& definition) {
  WordPieceOptions options{.whole_words = whole_words, .continuing_prefix = "##"};
  EBB_RETURN_IF_ERROR(ReadTokens(root, model, nullptr, definition));
  EBB_ASSIGN_OR_RETURN(options.unknown,
                       UnknownToken(model, whole_words ? "<unk>" : "[UNK]", definition));
  if (!whole_words && Field(model, "continuing_subword_prefix") != nullptr) {
    EBB_ASSIGN_OR_RETURN(options.continuing_prefix,
                         InsertedField(model, "continuing_subword_prefix", kWhere));
  }
  EBB_ASSIGN_OR_RETURN(options.max_word_characters,
                       CountField(model, "max_input_chars_per_word", 100, kWhere));
  definition.model = std::move(options);
  return absl::OkStatus();
}

// Old files do not say what they are.
std::string GuessType(const Json& model) {
  const Json* vocabulary = Field(model, "vocab");
  if (vocabulary != nullptr && vocabulary->is_array()) return "Unigram";
  if (Field(model, "merges") != nullptr) return "BPE";
  return Field(model, "continuing_subword_prefix") != nullptr ? "WordPiece" : "WordLevel";
}

}  // namespace

absl::Status ParseModel(const Json& root, bool& byte_level, TokenizerDefinition& definition) {
  const Json* model = Field(root, "model");
  if (model == nullptr || !model->is_object()) return Malformed(kWhere, "missing or no object");
  std::string type = GuessType(*model);
  if (Field(*model, "type") != nullptr) {
    EBB_ASSIGN_OR_RETURN(type, StringField(*model, "type", kWhere));
  }
  if (type == "BPE") return ReadBpe(root, *model, byte_level, definition);
  byte_level = false;
  if (type == "Unigram") return ReadUnigram(root, *model, definition);
  if (type == "WordPiece") return ReadWords(root, *model, false, definition);
  if (type == "WordLevel") return ReadWords(root, *model, true, definition);
  return UnsupportedStep("model", type, "BPE, Unigram, WordPiece and WordLevel");
}

}  // namespace ebbinghaus::text
