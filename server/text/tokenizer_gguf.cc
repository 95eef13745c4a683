// Tokenizer::FromGguf: the definitions that GGUF files name instead of holding them.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/strings/str_format.h"
#include "server/base/status_macros.h"
#include "server/text/control_texts.h"
#include "server/text/tokenizer_definition.h"
#include "server/text/tokenizer_gguf_splits.h"
#include "server/text/tokenizer_strings.h"
#include "server/text/unicode.h"

namespace ebbinghaus::text {
namespace {

using base::TokenId;

constexpr std::string_view kSpaceMark = "\u2581";

enum TokenType : int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

absl::Status Malformed(std::string_view key, std::string_view what) {
  return absl::InvalidArgumentError(Concat({"tokenizer.ggml.", key, ": ", what}));
}

int32_t TypeOf(const GgufVocabulary& vocabulary, TokenId id) {
  return vocabulary.token_types.empty() ? kNormal : vocabulary.token_types[id];
}

absl::Status CheckSizes(const GgufVocabulary& v) {
  if (v.tokens.empty()) return Malformed("tokens", "missing or empty");
  if (v.tokens.size() > kMaxTokens) return Malformed("tokens", "too many");
  const auto agrees = [&](size_t size) { return size == 0 || size == v.tokens.size(); };
  if (!agrees(v.token_types.size())) return Malformed("token_type", "not as many as tokens");
  if (!agrees(v.scores.size())) return Malformed("scores", "not as many as tokens");
  const std::pair<std::string_view, std::optional<TokenId>> special[] = {
      {"bos_token_id", v.bos_token_id},
      {"eos_token_id", v.eos_token_id},
      {"unknown_token_id", v.unknown_token_id}};
  for (const auto& [key, id] : special) {
    if (id.has_value() && *id >= v.tokens.size()) return Malformed(key, "not in the vocabulary");
  }
  for (const std::string& token : v.tokens) {
    if (!IsValidUtf8(token)) return Malformed("tokens", Concat({Quoted(token), " is not UTF-8"}));
    if (token.size() > 65536) return Malformed("tokens", "a token longer than 65,536 bytes");
  }
  return absl::OkStatus();
}

// Tokens by id, of which the later of two equal ones counts, as in llama.cpp. Control tokens are
// special, user-defined ones are recognised always. What looks like nothing but a control token is
// one, though converters forget to say so.
void FillTokens(const GgufVocabulary& v, TokenizerDefinition& definition) {
  definition.tokens = v.tokens;
  definition.matchable.assign(v.tokens.size(), true);
  std::vector<bool> named(v.tokens.size());
  for (const TokenId id : v.control_token_ids) {
    if (id < named.size()) named[id] = true;
  }
  std::unordered_map<std::string_view, TokenId> last;
  last.reserve(v.tokens.size());
  for (TokenId id = 0; id < v.tokens.size(); ++id) {
    if (v.tokens[id].empty()) continue;
    const auto [entry, fresh] = last.emplace(v.tokens[id], id);
    if (!fresh) definition.matchable[std::exchange(entry->second, id)] = false;
    const int32_t type = TypeOf(v, id);
    const bool control = type == kControl || type == kUnknown || named[id] ||
                         (type != kUserDefined && LooksLikeControl(v.tokens[id])) ||
                         IsEndOfTurn(v.tokens[id]);
    if (control || type == kUnused) definition.matchable[id] = false;
    if (!control && type != kUserDefined) continue;
    AddedToken token{.id = id, .content = v.tokens[id]};
    token.special = control;
    definition.added.push_back(std::move(token));
  }
}

// `add_bos`, `add_eos`: unless the file says otherwise. Only a file that asks for what it lacks is
// wrong.
absl::Status SetEnds(const GgufVocabulary& v, std::optional<TokenId> bos, bool add_bos,
                     bool add_eos, TokenizerDefinition& definition) {
  definition.bos = bos;
  if (v.add_bos_token.value_or(add_bos)) {
    if (bos.has_value()) {
      definition.prefix = {*bos};
    } else if (v.add_bos_token.has_value()) {
      return Malformed("add_bos_token", "set, but bos_token_id is missing");
    }
  }
  if (v.add_eos_token.value_or(add_eos)) {
    if (v.eos_token_id.has_value()) {
      definition.suffix = {*v.eos_token_id};
    } else if (v.add_eos_token.has_value()) {
      return Malformed("add_eos_token", "set, but eos_token_id is missing");
    }
  }
  return absl::OkStatus();
}

// The merges of a BPE file. Texts on the way that are no tokens become detours; of two merges of the
// same pair the earlier counts.
class MergeReader {
 public:
  MergeReader(const TokenizerDefinition& definition, bool byte_level)
      : ids_(definition, SpelledTokens::Of::kLast),
        next_(static_cast<TokenId>(definition.tokens.size())),
        byte_level_(byte_level) {}

  absl::Status Read(const std::vector<std::string>& merges, BpeDefinition& bpe) {
    bpe.merges.reserve(merges.size());
    for (size_t i = 0; i < merges.size(); ++i) {
      const std::string_view merge = merges[i];
      const size_t space = merge.find(' ', 1);
      if (space == std::string_view::npos) {
        return Malformed("merges",
                         Concat({Quoted(merge), " is not two tokens with a space between"}));
      }
      const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
      bpe.merges.push_back({Find(left, bpe), Find(right, bpe), Find(Concat({left, right}), bpe),
                            static_cast<uint32_t>(i)});
    }
    std::reverse(bpe.merges.begin(), bpe.merges.end());
    return absl::OkStatus();
  }

 private:
  TokenId Find(std::string_view spelled, BpeDefinition& bpe) {
    const TokenId id = ids_.Find(spelled);
    if (id != kNoToken) return id;
    const auto [detour, fresh] = detours_.emplace(std::string(spelled), next_);
    if (!fresh) return detour->second;
    ++next_;
    BpeDetour result;
    result.text = byte_level_ ? BytesOfByteLevel(spelled).value_or("") : std::string(spelled);
    for (const char byte : spelled) {
      const TokenId token =
          byte_level_ ? ids_.Find(std::string_view(&byte, 1))
                      : ids_.Find(absl::StrFormat("<0x%02X>", static_cast<uint8_t>(byte)));
      if (token != kNoToken) result.tokens.push_back(token);
    }
    bpe.detours.push_back(std::move(result));
    return detour->second;
  }

  const SpelledTokens ids_;
  std::unordered_map<std::string, TokenId> detours_;
  TokenId next_;
  const bool byte_level_;
};

absl::StatusOr<TokenizerDefinition> FromBpe(const GgufVocabulary& v) {
  const bool gemma = v.model == "gemma4";
  EBB_ASSIGN_OR_RETURN(const NamedSplit split,
                       FindNamedSplit(gemma ? "gemma4" : v.pre.empty() ? "default" : v.pre));
  TokenizerDefinition definition;
  FillTokens(v, definition);
  EBB_RETURN_IF_ERROR(SetEnds(v, v.bos_token_id, split.add_bos, false, definition));
  BpeDefinition bpe;
  std::vector<NormalizerStep> normalizer;
  if (split.nfc) normalizer.emplace_back(NormalizationForm::kNfc);
  if (split.spelled_in_utf8) {
    normalizer.emplace_back(ReplaceNormalizer{" ", std::string(kSpaceMark)});
    bpe.options.byte_fallback = true;
    bpe.options.whole_newlines = true;
    definition.decoder.rules = {ReplaceRule{std::string(kSpaceMark), " "}};
    definition.decoder.fallback_at = 1;
  } else {
    bpe.options.byte_level = true;
    definition.decoder.byte_level = true;
  }
  bpe.options.ignore_merges = split.ignore_merges;
  definition.normalizer = Normalizer(std::move(normalizer));
  std::vector<PreTokenizerStep> steps;
  if (v.add_space_prefix.value_or(false)) steps.emplace_back(PrefixSpaceStep{});
  for (PreTokenizerStep& step : StepsOf(split)) steps.push_back(std::move(step));
  definition.pre_tokenizer = PreTokenizer(std::move(steps));
  EBB_RETURN_IF_ERROR(MergeReader(definition, bpe.options.byte_level).Read(v.merges, bpe));
  definition.model = std::move(bpe);
  return definition;
}

absl::Status CheckScores(const GgufVocabulary& v) {
  if (v.scores.empty()) return Malformed("scores", "missing");
  for (const float score : v.scores) {
    if (std::isnan(score)) return Malformed("scores", "not a number");
  }
  return absl::OkStatus();
}

// SentencePiece merges whatever pair forms the token of the highest score, leftmost first. The same
// as merges: every way to cut a token into two tokens, ranked by the token's score.
absl::Status MergesFromScores(const GgufVocabulary& v, std::vector<BpeMerge>& merges) {
  std::vector<float> order = v.scores;
  std::sort(order.begin(), order.end(), std::greater<>());
  order.erase(std::unique(order.begin(), order.end()), order.end());

  const auto takes_part = [&](TokenId id) {
    const int32_t type = TypeOf(v, id);
    return (type == kNormal || type == kUserDefined) && !v.tokens[id].empty();
  };
  TokenIndex ids(v.tokens.size());
  for (TokenId id = static_cast<TokenId>(v.tokens.size()); id-- > 0;) {
    if (takes_part(id)) ids.Insert(v.tokens[id], id);  // the last of two counts
  }
  for (TokenId id = 0; id < v.tokens.size(); ++id) {
    const std::string_view token = v.tokens[id];
    if (!takes_part(id) || ids.Find(token) != id) continue;
    if (token.size() > kMaxUnigramBytes)
      return Malformed("tokens", "a token longer than 1,024 bytes");
    const auto rank = static_cast<uint32_t>(
        std::lower_bound(order.begin(), order.end(), v.scores[id], std::greater<>()) -
        order.begin());
    for (size_t cut = 1; cut < token.size(); ++cut) {
      if ((static_cast<uint8_t>(token[cut]) & 0xC0) == 0x80) continue;
      const TokenId left = ids.Find(token.substr(0, cut));
      if (left == kNoToken) continue;
      const TokenId right = ids.Find(token.substr(cut));
      if (right != kNoToken) merges.push_back({left, right, id, rank});
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<TokenizerDefinition> FromLlama(const GgufVocabulary& v) {
  EBB_RETURN_IF_ERROR(CheckScores(v));
  TokenizerDefinition definition;
  FillTokens(v, definition);
  // What SentencePiece's own defaults are, and what files rely on that leave them out.
  std::optional<TokenId> bos = v.bos_token_id, unknown = v.unknown_token_id;
  if (!bos.has_value() && v.tokens.size() > 1 && TypeOf(v, 1) == kControl) bos = 1;
  if (!unknown.has_value() && TypeOf(v, 0) == kUnknown) unknown = 0;
  EBB_RETURN_IF_ERROR(SetEnds(v, bos, /*add_bos=*/true, /*add_eos=*/false, definition));

  const bool prefix = v.add_space_prefix.value_or(true);
  std::vector<NormalizerStep> steps;
  if (prefix) steps.emplace_back(PrependNormalizer{std::string(kSpaceMark)});
  steps.emplace_back(ReplaceNormalizer{" ", std::string(kSpaceMark)});
  definition.normalizer = Normalizer(std::move(steps));
  definition.decoder.rules = {ReplaceRule{std::string(kSpaceMark), " "}};
  definition.decoder.fallback_at = 1;
  if (prefix) definition.decoder.ends.at_start = 1;
  BpeDefinition bpe;
  bpe.options.byte_fallback = true;
  bpe.options.fuse_unknown = true;
  bpe.options.unknown = unknown.value_or(kNoToken);
  EBB_RETURN_IF_ERROR(MergesFromScores(v, bpe.merges));
  definition.model = std::move(bpe);
  return definition;
}

absl::StatusOr<TokenizerDefinition> FromT5(const GgufVocabulary& v) {
  constexpr double kUnknownPenalty = 10;
  EBB_RETURN_IF_ERROR(CheckScores(v));
  TokenizerDefinition definition;
  FillTokens(v, definition);
  EBB_RETURN_IF_ERROR(SetEnds(v, v.bos_token_id, false, /*add_eos=*/true, definition));
  SentencePieceNormalizer normalizer;
  normalizer.add_prefix = v.add_space_prefix.value_or(true);
  normalizer.merge_spaces = v.remove_extra_whitespaces.value_or(false);
  if (!v.precompiled_charsmap.empty()) {
    absl::StatusOr<Charsmap> map = Charsmap::Parse(v.precompiled_charsmap);
    if (!map.ok()) return Malformed("precompiled_charsmap", std::string(map.status().message()));
    normalizer.map = std::make_shared<const Charsmap>(*std::move(map));
  }
  definition.decoder.rules = {ReplaceRule{std::string(kSpaceMark), " "}};
  if (normalizer.add_prefix) definition.decoder.ends.at_start = 1;
  definition.normalizer = Normalizer({std::move(normalizer)});

  UnigramOptions options;
  options.scores.assign(v.scores.begin(), v.scores.end());
  options.unknown = v.unknown_token_id.value_or(v.tokens.size() > 2 ? 2 : kNoToken);
  double lowest = 0;
  for (TokenId id = 0; id < v.tokens.size(); ++id) {
    const int32_t type = TypeOf(v, id);
    if (type == kNormal) lowest = std::min(lowest, options.scores[id]);
    if (type == kUserDefined) options.scores[id] = 0;
    if (type == kUnused) definition.matchable[id] = true;
    if (type == kByte) definition.matchable[id] = false;
    if (v.tokens[id].size() > kMaxUnigramBytes) {
      return Malformed("tokens", "a token longer than 1,024 bytes");
    }
  }
  options.unknown_score = lowest - kUnknownPenalty;
  definition.model = std::move(options);
  return definition;
}

// Words begin with U+2581 here; what continues one has no mark.
absl::StatusOr<TokenizerDefinition> FromBert(const GgufVocabulary& v) {
  TokenizerDefinition definition;
  FillTokens(v, definition);
  EBB_RETURN_IF_ERROR(SetEnds(v, v.bos_token_id, /*add_bos=*/true, false, definition));
  definition.normalizer = Normalizer({CharacterNormalizer::kBertClean,
                                      CharacterNormalizer::kBertHan, NormalizationForm::kNfd,
                                      CharacterNormalizer::kStripNonspacingMarks,
                                      CharacterNormalizer::kLowercase});
  definition.pre_tokenizer = PreTokenizer(
      {WhitespaceStep{}, PunctuationStep{},
       MetaspaceStep{.replacement = std::string(kSpaceMark), .split = false}});
  WordPieceOptions options;
  options.max_word_characters = SIZE_MAX;
  options.unknown = v.unknown_token_id.value_or(v.tokens.size() > 100 ? 100 : kNoToken);
  definition.decoder.rules = {MetaspaceRule{std::string(kSpaceMark), true}};
  definition.model = std::move(options);
  return definition;
}

absl::StatusOr<TokenizerDefinition> Read(const GgufVocabulary& v) {
  if (v.model == "gpt2" || v.model == "gemma4") return FromBpe(v);
  if (v.model == "llama") return FromLlama(v);
  if (v.model == "t5") return FromT5(v);
  if (v.model == "bert") return FromBert(v);
  return Malformed("model", Concat({Quoted(v.model), " is not supported; supported are gpt2, "
                                                     "gemma4, llama, t5, bert"}));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::FromGguf(
    const GgufVocabulary& vocabulary) {
  EBB_RETURN_IF_ERROR(CheckSizes(vocabulary));
  EBB_ASSIGN_OR_RETURN(TokenizerDefinition definition, Read(vocabulary));
  LimitTokens(vocabulary.max_tokens, definition);
  return MakeTokenizer(std::move(definition));
}

}  // namespace ebbinghaus::text
