// The normalizers and decoders of a tokenizer.json.
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "server/base/status_macros.h"
#include "server/text/tokenizer_json_steps.h"
#include "server/text/tokenizer_strings.h"

namespace ebbinghaus::text {
namespace {

absl::Status AddBertNormalizer(const Json& step, std::vector<NormalizerStep>& steps) {
  constexpr std::string_view kWhere = "normalizer";
  EBB_ASSIGN_OR_RETURN(const bool clean, BoolField(step, "clean_text", true, kWhere));
  EBB_ASSIGN_OR_RETURN(const bool han, BoolField(step, "handle_chinese_chars", true, kWhere));
  EBB_ASSIGN_OR_RETURN(const bool lowercase, BoolField(step, "lowercase", true, kWhere));
  EBB_ASSIGN_OR_RETURN(const bool strip, BoolField(step, "strip_accents", lowercase, kWhere));
  if (clean) steps.emplace_back(CharacterNormalizer::kBertClean);
  if (han) steps.emplace_back(CharacterNormalizer::kBertHan);
  if (strip) {
    steps.emplace_back(NormalizationForm::kNfd);
    steps.emplace_back(CharacterNormalizer::kStripNonspacingMarks);
  }
  if (lowercase) steps.emplace_back(CharacterNormalizer::kLowercase);
  return absl::OkStatus();
}

absl::StatusOr<CharsmapNormalizer> ParsePrecompiled(const Json& step) {
  constexpr std::string_view kWhere = "normalizer";
  EBB_ASSIGN_OR_RETURN(const std::string encoded,
                       StringField(step, "precompiled_charsmap", kWhere));
  std::string bytes;
  if (!absl::Base64Unescape(absl::string_view(encoded.data(), encoded.size()), &bytes)) {
    return Malformed(kWhere, "precompiled_charsmap is not base64");
  }
  absl::StatusOr<Charsmap> map = Charsmap::Parse(bytes);
  if (!map.ok()) return Malformed(kWhere, std::string(map.status().message()));
  return CharsmapNormalizer{std::make_shared<const Charsmap>(*std::move(map))};
}

absl::Status AddNormalizer(const Json& step, std::vector<NormalizerStep>& steps) {
  constexpr std::string_view kWhere = "normalizer";
  constexpr std::pair<std::string_view, NormalizationForm> kForms[] = {
      {"NFC", NormalizationForm::kNfc},
      {"NFD", NormalizationForm::kNfd},
      {"NFKC", NormalizationForm::kNfkc},
      {"NFKD", NormalizationForm::kNfkd}};
  constexpr std::pair<std::string_view, CharacterNormalizer> kCharacters[] = {
      {"Lowercase", CharacterNormalizer::kLowercase},
      {"StripAccents", CharacterNormalizer::kStripMarks},
      {"Nmt", CharacterNormalizer::kNmt},
      {"ByteLevel", CharacterNormalizer::kByteLevel}};
  EBB_ASSIGN_OR_RETURN(const std::string type, StringField(step, "type", kWhere));
  for (const auto& [name, form] : kForms) {
    if (type == name) return steps.emplace_back(form), absl::OkStatus();
  }
  for (const auto& [name, kind] : kCharacters) {
    if (type == name) return steps.emplace_back(kind), absl::OkStatus();
  }
  if (type == "Prepend") {
    EBB_ASSIGN_OR_RETURN(std::string prefix, InsertedField(step, "prepend", kWhere));
    steps.emplace_back(PrependNormalizer{std::move(prefix)});
  } else if (type == "Replace") {
    ReplaceNormalizer replace;
    EBB_ASSIGN_OR_RETURN(replace.pattern, ParsePattern(step, kWhere));
    EBB_ASSIGN_OR_RETURN(replace.content, InsertedField(step, "content", kWhere));
    steps.emplace_back(std::move(replace));
  } else if (type == "Strip") {
    TrimNormalizer trim;
    EBB_ASSIGN_OR_RETURN(trim.left, BoolField(step, "strip_left", true, kWhere));
    EBB_ASSIGN_OR_RETURN(trim.right, BoolField(step, "strip_right", true, kWhere));
    steps.emplace_back(trim);
  } else if (type == "BertNormalizer") {
    return AddBertNormalizer(step, steps);
  } else if (type == "Precompiled") {
    EBB_ASSIGN_OR_RETURN(CharsmapNormalizer precompiled, ParsePrecompiled(step));
    steps.emplace_back(std::move(precompiled));
  } else {
    return UnsupportedStep("normalizer", type,
                           "NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Nmt, Prepend, "
                           "Replace, Precompiled, BertNormalizer, ByteLevel and Sequence");
  }
  return absl::OkStatus();
}

// Collects the steps of a decoder. Behind Fuse or ByteLevel the text is one.
class DecoderReader {
 public:
  absl::Status Add(const Json& step);
  DecoderRules Take() { return std::move(rules_); }

 private:
  static constexpr std::string_view kWhere = "decoder";
  absl::Status AddStrip(const Json& step);
  absl::Status AddRule(std::string_view type, TokenRule rule) {
    if (fused_) return Malformed(kWhere, Concat({type, " behind Fuse or ByteLevel is not supported"}));
    rules_.rules.push_back(std::move(rule));
    return absl::OkStatus();
  }

  DecoderRules rules_;
  bool fused_ = false;
};

absl::Status DecoderReader::AddStrip(const Json& step) {
  TextEnds ends;
  EBB_ASSIGN_OR_RETURN(ends.character, InsertedField(step, "content", kWhere));
  EBB_ASSIGN_OR_RETURN(ends.at_start, CountField(step, "start", 0, kWhere));
  EBB_ASSIGN_OR_RETURN(ends.at_end, CountField(step, "stop", 0, kWhere));
  if (ends.character.empty()) return Malformed(kWhere, "a Strip of nothing");
  if (!fused_) return AddRule("Strip", StripRule{std::move(ends)});
  const bool stripped = rules_.ends.at_start > 0 || rules_.ends.at_end > 0;
  if (stripped && rules_.ends.character != ends.character) {
    return Malformed(kWhere, "two Strips of different characters are not supported");
  }
  const auto sum = [](uint32_t a, uint32_t b) { return a > UINT32_MAX - b ? UINT32_MAX : a + b; };
  rules_.ends.character = ends.character;
  rules_.ends.at_start = sum(rules_.ends.at_start, ends.at_start);
  rules_.ends.at_end = sum(rules_.ends.at_end, ends.at_end);
  return absl::OkStatus();
}

absl::Status DecoderReader::Add(const Json& step) {
  EBB_ASSIGN_OR_RETURN(const std::string type, StringField(step, "type", kWhere));
  if (type == "ByteLevel") {
    rules_.byte_level = true;
    fused_ = true;
  } else if (type == "ByteFallback") {
    if (rules_.fallback_at == SIZE_MAX && !fused_) rules_.fallback_at = rules_.rules.size();
  } else if (type == "Fuse") {
    fused_ = true;
  } else if (type == "Strip") {
    return AddStrip(step);
  } else if (type == "Replace") {
    ReplaceRule replace;
    EBB_ASSIGN_OR_RETURN(replace.pattern, ParsePattern(step, kWhere));
    EBB_ASSIGN_OR_RETURN(replace.content, InsertedField(step, "content", kWhere));
    return AddRule(type, std::move(replace));
  } else if (type == "Metaspace") {
    EBB_ASSIGN_OR_RETURN(const MetaspaceStep metaspace, ParseMetaspace(step, kWhere));
    return AddRule(type, MetaspaceRule{metaspace.replacement,
                                       metaspace.prepend != MetaspaceStep::Prepend::kNever});
  } else if (type == "WordPiece") {
    WordPieceRule words{.prefix = "##"};
    if (Field(step, "prefix") != nullptr) {
      EBB_ASSIGN_OR_RETURN(words.prefix, InsertedField(step, "prefix", kWhere));
    }
    EBB_ASSIGN_OR_RETURN(words.cleanup, BoolField(step, "cleanup", true, kWhere));
    return AddRule(type, std::move(words));
  } else if (type == "BPEDecoder") {
    WordEndRule end{"</w>"};
    if (Field(step, "suffix") != nullptr) {
      EBB_ASSIGN_OR_RETURN(end.suffix, InsertedField(step, "suffix", kWhere));
    }
    if (end.suffix.empty()) return Malformed(kWhere, "an empty suffix");
    if (!fused_) rules_.ends = {.character = " ", .at_end = 1};
    return AddRule(type, std::move(end));
  } else {
    return UnsupportedStep("decoder", type,
                           "ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace, WordPiece, "
                           "BPEDecoder and Sequence");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<NormalizerStep>> ParseNormalizer(const Json* json) {
  EBB_ASSIGN_OR_RETURN(const auto steps, StepsOf(json, "normalizers", "normalizer"));
  std::vector<NormalizerStep> result;
  for (const Json* step : steps) EBB_RETURN_IF_ERROR(AddNormalizer(*step, result));
  return result;
}

absl::StatusOr<DecoderRules> ParseDecoder(const Json* json) {
  if (json == nullptr) return DecoderRules{.rules = {SpaceBetweenRule{}}};
  EBB_ASSIGN_OR_RETURN(const auto steps, StepsOf(json, "decoders", "decoder"));
  DecoderReader reader;
  for (const Json* step : steps) EBB_RETURN_IF_ERROR(reader.Add(*step));
  return reader.Take();
}

}  // namespace ebbinghaus::text
