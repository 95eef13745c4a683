// Tokenizer::FromGguf: the definitions that GGUF files name instead of holding them.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "server/base/status_macros.h"
#include "server/text/tokenizer_definition.h"
#include "server/text/tokenizer_strings.h"
#include "server/text/unicode.h"

namespace ebbinghaus::text {
namespace {

using base::TokenId;

constexpr size_t kMaxTokenBytes = 1024;  // of "llama": every cut of a token is looked up
constexpr char kSpaceMark[] = "\u2581";

enum TokenType : int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

// What a value of tokenizer.ggml.pre stands for, from the tokenizer.json of the models that carry
// it.
struct Split {
  std::string_view name;
  std::string_view pattern;
  bool individual_digits = false;  // before the pattern
  bool nfc = false;
  bool ignore_merges = false;
  bool add_bos = false;  // unless the file says otherwise
};

constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr Split kSplits[] = {
    {.name = "default", .pattern = kGpt2Split},
    {.name = "gpt-2", .pattern = kGpt2Split},
    {.name = "smollm", .pattern = kGpt2Split, .individual_digits = true},
    {.name = "starcoder", .pattern = kGpt2Split, .individual_digits = true},
    {.name = "llama-bpe", .pattern = kLlama3, .ignore_merges = true, .add_bos = true},
    {.name = "llama3", .pattern = kLlama3, .ignore_merges = true, .add_bos = true},
    {.name = "llama-v3", .pattern = kLlama3, .ignore_merges = true, .add_bos = true},
    {.name = "qwen2", .pattern = kQwen2, .nfc = true},
    {.name = "qwen35", .pattern = kQwen35, .nfc = true},
    {.name = "tekken", .pattern = kTekken, .ignore_merges = true, .add_bos = true},
};

absl::Status Malformed(std::string_view key, std::string_view what) {
  return absl::InvalidArgumentError(Concat({"tokenizer.ggml.", key, ": ", what}));
}

int32_t TypeOf(const GgufVocabulary& vocabulary, TokenId id) {
  return vocabulary.token_types.empty() ? kNormal : vocabulary.token_types[id];
}

absl::Status CheckSizes(const GgufVocabulary& v) {
  if (v.tokens.empty()) return Malformed("tokens", "missing or empty");
  if (v.tokens.size() >= kNoToken) return Malformed("tokens", "too many");
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

// Control tokens are special, user-defined ones are recognised always.
absl::Status FillTokens(const GgufVocabulary& v, TokenizerDefinition& definition) {
  definition.tokens = v.tokens;
  definition.matchable.assign(v.tokens.size(), true);
  for (TokenId id = 0; id < v.tokens.size(); ++id) {
    const int32_t type = TypeOf(v, id);
    const bool special = type == kControl || type == kUnknown;
    if (special || type == kUnused) definition.matchable[id] = false;
    if (!special && type != kUserDefined) continue;
    AddedToken token{.id = id, .content = v.tokens[id]};
    token.special = special;
    definition.added.push_back(std::move(token));
  }
  return absl::OkStatus();
}

absl::Status SetBos(const GgufVocabulary& v, std::optional<TokenId> bos, bool add_by_default,
                    TokenizerDefinition& definition) {
  definition.bos = bos;
  if (!v.add_bos_token.value_or(add_by_default)) return absl::OkStatus();
  if (!bos.has_value()) {
    // Only a file that asks for what it lacks is wrong.
    return v.add_bos_token.has_value()
               ? Malformed("add_bos_token", "set, but bos_token_id is missing")
               : absl::OkStatus();
  }
  definition.prefix = {*bos};
  return absl::OkStatus();
}

absl::StatusOr<Split> FindSplit(const std::string& name) {
  std::string known;
  for (const Split& split : kSplits) {
    if (split.name == name) return split;
    known += Concat({known.empty() ? "" : ", ", split.name});
  }
  return Malformed(
      "pre", Concat({name.empty() ? std::string("missing") : Quoted(name) + " is not supported",
                     "; supported are ", known}));
}

absl::StatusOr<TokenizerDefinition> FromGpt2(const GgufVocabulary& v) {
  EBB_ASSIGN_OR_RETURN(const Split split, FindSplit(v.pre));
  TokenizerDefinition definition;
  EBB_RETURN_IF_ERROR(FillTokens(v, definition));
  EBB_RETURN_IF_ERROR(SetBos(v, v.bos_token_id, split.add_bos, definition));
  definition.decoder.byte_level = true;
  definition.bpe.byte_level = true;
  definition.bpe.ignore_merges = split.ignore_merges;
  if (split.nfc) definition.normalizer = Normalizer({NormalizationForm::kNfc});

  std::vector<PreTokenizerStep> steps;
  if (split.individual_digits) steps.emplace_back(DigitsStep{.individual = true});
  if (v.add_space_prefix.value_or(false)) steps.emplace_back(PrefixSpaceStep{});
  EBB_ASSIGN_OR_RETURN(Regex regex, Regex::Compile(split.pattern));
  steps.emplace_back(SplitStep{std::move(regex)});
  definition.pre_tokenizer = PreTokenizer(std::move(steps));

  const SpelledTokens ids(v.tokens);
  definition.merges.reserve(v.merges.size());
  for (const std::string& merge : v.merges) {
    const size_t space = merge.find(' ', 1);
    if (space == std::string::npos) {
      return Malformed("merges",
                       Concat({Quoted(merge), " is not two tokens with a space between"}));
    }
    const absl::StatusOr<BpeMerge> resolved = ids.Merge(
        std::string_view(merge).substr(0, space), std::string_view(merge).substr(space + 1),
        static_cast<uint32_t>(definition.merges.size()));
    if (!resolved.ok()) return Malformed("merges", std::string(resolved.status().message()));
    definition.merges.push_back(*resolved);
  }
  return definition;
}

// SentencePiece merges whatever pair forms the token of the highest score, leftmost first. The same
// as merges: every way to cut a token into two tokens, ranked by the token's score.
absl::Status MergesFromScores(const GgufVocabulary& v, TokenizerDefinition& definition) {
  std::vector<float> order = v.scores;
  for (const float score : order) {
    if (std::isnan(score)) return Malformed("scores", "not a number");
  }
  std::sort(order.begin(), order.end(), std::greater<>());
  order.erase(std::unique(order.begin(), order.end()), order.end());

  const auto takes_part = [&](TokenId id) {
    const int32_t type = TypeOf(v, id);
    return type == kNormal || type == kUserDefined;
  };
  TokenIndex ids(v.tokens.size());
  for (TokenId id = 0; id < v.tokens.size(); ++id) {
    if (takes_part(id)) ids.Insert(v.tokens[id], id);
  }
  for (TokenId id = 0; id < v.tokens.size(); ++id) {
    const std::string_view token = v.tokens[id];
    if (!takes_part(id) || ids.Find(token) != id) continue;
    if (token.size() > kMaxTokenBytes)
      return Malformed("tokens", "a token longer than 1,024 bytes");
    const auto rank = static_cast<uint32_t>(
        std::lower_bound(order.begin(), order.end(), v.scores[id], std::greater<>()) -
        order.begin());
    for (size_t cut = 1; cut < token.size(); ++cut) {
      if ((static_cast<uint8_t>(token[cut]) & 0xC0) == 0x80) continue;
      const TokenId left = ids.Find(token.substr(0, cut));
      if (left == kNoToken) continue;
      const TokenId right = ids.Find(token.substr(cut));
      if (right != kNoToken) definition.merges.push_back({left, right, id, rank});
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<TokenizerDefinition> FromLlama(const GgufVocabulary& v) {
  if (v.scores.empty()) return Malformed("scores", "missing");
  TokenizerDefinition definition;
  EBB_RETURN_IF_ERROR(FillTokens(v, definition));
  // What SentencePiece's own defaults are, and what files rely on that leave them out.
  std::optional<TokenId> bos = v.bos_token_id, unknown = v.unknown_token_id;
  if (!bos.has_value() && v.tokens.size() > 1 && TypeOf(v, 1) == kControl) bos = 1;
  if (!unknown.has_value() && TypeOf(v, 0) == kUnknown) unknown = 0;
  EBB_RETURN_IF_ERROR(SetBos(v, bos, /*add_by_default=*/true, definition));

  const bool prefix = v.add_space_prefix.value_or(true);
  std::vector<NormalizerStep> steps;
  if (prefix) steps.emplace_back(PrependNormalizer{kSpaceMark});
  steps.emplace_back(ReplaceNormalizer{" ", kSpaceMark});
  definition.normalizer = Normalizer(std::move(steps));
  definition.decoder.byte_fallback = true;
  definition.decoder.replacements = {{kSpaceMark, " "}};
  if (prefix) definition.decoder.leading_space = {LeadingSpace::Rule::kStrip, 1};
  definition.bpe.byte_fallback = true;
  definition.bpe.fuse_unknown = true;
  definition.bpe.unknown = unknown.value_or(kNoToken);
  EBB_RETURN_IF_ERROR(MergesFromScores(v, definition));
  return definition;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::FromGguf(
    const GgufVocabulary& vocabulary) {
  EBB_RETURN_IF_ERROR(CheckSizes(vocabulary));
  if (vocabulary.model == "gpt2") {
    EBB_ASSIGN_OR_RETURN(TokenizerDefinition definition, FromGpt2(vocabulary));
    return MakeTokenizer(std::move(definition));
  }
  if (vocabulary.model == "llama") {
    EBB_ASSIGN_OR_RETURN(TokenizerDefinition definition, FromLlama(vocabulary));
    return MakeTokenizer(std::move(definition));
  }
  return Malformed(
      "model", Concat({Quoted(vocabulary.model), " is not supported; supported are gpt2, llama"}));
}

}  // namespace ebbinghaus::text
