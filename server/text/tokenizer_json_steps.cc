#include "server/text/tokenizer_json_steps.h"

#include <optional>
#include <utility>

#include "server/base/status_macros.h"
#include "server/text/tokenizer_strings.h"

namespace ebbinghaus::text {
namespace {

constexpr size_t kMaxSteps = 64;
constexpr size_t kMaxInsertedBytes = 256;  // what a step may put into a text at one place

absl::Status UnsupportedStep(std::string_view kind, std::string_view type, std::string_view known) {
  return absl::InvalidArgumentError(Concat({"tokenizer.json: the ", kind, " ", Quoted(type),
                                            " is not supported; supported are ", known}));
}

// The steps of a field: a Sequence is opened, as deep as it goes.
absl::Status Flatten(const Json& json, const char* list, std::string_view where,
                     std::vector<const Json*>& steps) {
  EBB_ASSIGN_OR_RETURN(const std::string type, StringField(json, "type", where));
  if (type != "Sequence") {
    if (steps.size() == kMaxSteps) return Malformed(where, "more than 64 steps");
    steps.push_back(&json);
    return absl::OkStatus();
  }
  const Json* items = Field(json, list);
  if (items == nullptr || !items->is_array()) {
    return Malformed(where, Concat({"a Sequence without the array \"", list, "\""}));
  }
  for (const Json& item : *items) EBB_RETURN_IF_ERROR(Flatten(item, list, where, steps));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<const Json*>> StepsOf(const Json* json, const char* list,
                                                 std::string_view where) {
  std::vector<const Json*> steps;
  if (json != nullptr) EBB_RETURN_IF_ERROR(Flatten(*json, list, where, steps));
  return steps;
}

// A text that a step puts in.
absl::StatusOr<std::string> InsertedField(const Json& step, const char* key,
                                          std::string_view where) {
  EBB_ASSIGN_OR_RETURN(std::string text, StringField(step, key, where));
  if (text.size() > kMaxInsertedBytes)
    return Malformed(where, Concat({key, " is longer than 256 bytes"}));
  return text;
}

// {"String": s} stands for itself, {"Regex": r} for an expression.
absl::StatusOr<std::variant<std::string, Regex>> ParsePattern(const Json& step,
                                                              std::string_view where) {
  const Json* pattern = Field(step, "pattern");
  if (pattern == nullptr || !pattern->is_object()) return Malformed(where, "no pattern");
  if (Field(*pattern, "Regex") != nullptr) {
    EBB_ASSIGN_OR_RETURN(const std::string text, StringField(*pattern, "Regex", where));
    absl::StatusOr<Regex> regex = Regex::Compile(text);
    if (!regex.ok()) return Malformed(where, std::string(regex.status().message()));
    return std::variant<std::string, Regex>(*std::move(regex));
  }
  EBB_ASSIGN_OR_RETURN(std::string text, StringField(*pattern, "String", where));
  if (text.empty()) return Malformed(where, "an empty pattern");
  return std::variant<std::string, Regex>(std::move(text));
}

absl::StatusOr<SplitBehavior> ParseBehavior(const Json& step, std::string_view where) {
  EBB_ASSIGN_OR_RETURN(const std::string name, StringField(step, "behavior", where));
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return Malformed(where, Concat({"unknown behavior ", Quoted(name)}));
}

absl::StatusOr<MetaspaceStep> ParseMetaspace(const Json& step, std::string_view where) {
  MetaspaceStep result;
  EBB_ASSIGN_OR_RETURN(result.replacement, InsertedField(step, "replacement", where));
  if (result.replacement.empty()) return Malformed(where, "an empty replacement");
  EBB_ASSIGN_OR_RETURN(result.split, BoolField(step, "split", true, where));
  // Files of before 2024 have add_prefix_space alone.
  EBB_ASSIGN_OR_RETURN(const bool prefix, BoolField(step, "add_prefix_space", true, where));
  std::string scheme = prefix ? "always" : "never";
  if (Field(step, "prepend_scheme") != nullptr) {
    EBB_ASSIGN_OR_RETURN(scheme, StringField(step, "prepend_scheme", where));
    if (!prefix && scheme != "never")
      return Malformed(where, "add_prefix_space contradicts prepend_scheme");
  }
  if (scheme == "always") {
    result.prepend = MetaspaceStep::Prepend::kAlways;
  } else if (scheme == "first") {
    result.prepend = MetaspaceStep::Prepend::kFirst;
  } else if (scheme == "never") {
    result.prepend = MetaspaceStep::Prepend::kNever;
  } else {
    return Malformed(where, Concat({"unknown prepend_scheme ", Quoted(scheme)}));
  }
  return result;
}

absl::Status AddPreTokenizerStep(const Json& step, ParsedPreTokenizer& result) {
  constexpr std::string_view kWhere = "pre_tokenizer";
  if (result.byte_level) return Malformed(kWhere, "a step behind ByteLevel is not supported");
  EBB_ASSIGN_OR_RETURN(const std::string type, StringField(step, "type", kWhere));
  if (type == "Split") {
    SplitStep split;
    EBB_ASSIGN_OR_RETURN(split.pattern, ParsePattern(step, kWhere));
    EBB_ASSIGN_OR_RETURN(split.behavior, ParseBehavior(step, kWhere));
    EBB_ASSIGN_OR_RETURN(split.invert, BoolField(step, "invert", false, kWhere));
    result.steps.emplace_back(std::move(split));
  } else if (type == "Digits") {
    EBB_ASSIGN_OR_RETURN(const bool individual,
                         BoolField(step, "individual_digits", false, kWhere));
    result.steps.emplace_back(DigitsStep{individual});
  } else if (type == "Punctuation") {
    PunctuationStep punctuation;
    if (Field(step, "behavior") != nullptr) {
      EBB_ASSIGN_OR_RETURN(punctuation.behavior, ParseBehavior(step, kWhere));
    }
    result.steps.emplace_back(punctuation);
  } else if (type == "Metaspace") {
    EBB_ASSIGN_OR_RETURN(MetaspaceStep metaspace, ParseMetaspace(step, kWhere));
    result.steps.emplace_back(std::move(metaspace));
  } else if (type == "ByteLevel") {
    EBB_ASSIGN_OR_RETURN(const bool prefix, BoolField(step, "add_prefix_space", true, kWhere));
    EBB_ASSIGN_OR_RETURN(const bool use_regex, BoolField(step, "use_regex", true, kWhere));
    if (prefix) result.steps.emplace_back(PrefixSpaceStep{});
    if (use_regex) {
      EBB_ASSIGN_OR_RETURN(Regex regex, Regex::Compile(kGpt2Split));
      result.steps.emplace_back(SplitStep{std::move(regex)});
    }
    result.byte_level = true;
  } else {
    return UnsupportedStep("pre-tokenizer", type,
                           "Split, Digits, Punctuation, Metaspace, ByteLevel and Sequence");
  }
  return absl::OkStatus();
}

absl::Status AddDecoderStep(const Json& step, bool& fused, DecoderRules& rules) {
  constexpr std::string_view kWhere = "decoder";
  EBB_ASSIGN_OR_RETURN(const std::string type, StringField(step, "type", kWhere));
  if (type == "ByteLevel") {
    rules.byte_level = true;
  } else if (type == "ByteFallback") {
    rules.byte_fallback = true;
  } else if (type == "Fuse") {
    fused = true;
  } else if (type == "Replace") {
    EBB_ASSIGN_OR_RETURN(auto pattern, ParsePattern(step, kWhere));
    EBB_ASSIGN_OR_RETURN(std::string content, InsertedField(step, "content", kWhere));
    auto* from = std::get_if<std::string>(&pattern);
    if (from == nullptr || fused || rules.byte_fallback) {
      return Malformed(kWhere,
                       "Replace is supported with a plain string, before ByteFallback and Fuse");
    }
    rules.replacements.emplace_back(std::move(*from), std::move(content));
  } else if (type == "Strip") {
    EBB_ASSIGN_OR_RETURN(const std::string content, StringField(step, "content", kWhere));
    const Json* start = Field(step, "start");
    const Json* stop = Field(step, "stop");
    if (start == nullptr || !start->is_number_unsigned() || start->get<uint64_t>() > UINT32_MAX ||
        stop == nullptr || *stop != 0 || content != " " || !fused) {
      return Malformed(kWhere, "Strip is supported for spaces at the start, after Fuse");
    }
    rules.leading_space = {LeadingSpace::Rule::kStrip, start->get<uint32_t>()};
  } else if (type == "Metaspace") {
    EBB_ASSIGN_OR_RETURN(const MetaspaceStep metaspace, ParseMetaspace(step, kWhere));
    if (fused) return Malformed(kWhere, "Metaspace behind Fuse is not supported");
    rules.replacements.emplace_back(metaspace.replacement, " ");
    if (metaspace.prepend != MetaspaceStep::Prepend::kNever) {
      rules.leading_space.rule = LeadingSpace::Rule::kStripFirstToken;
    }
  } else {
    return UnsupportedStep("decoder", type,
                           "ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace and Sequence");
  }
  return absl::OkStatus();
}

// {"SpecialToken": {"id": name}} before and behind {"Sequence": {"id": "A"}}.
absl::Status ParseTemplate(const Json& step, TokenizerDefinition& definition) {
  constexpr std::string_view kWhere = "post_processor";
  const Json* single = Field(step, "single");
  const Json* specials = Field(step, "special_tokens");
  if (single == nullptr || !single->is_array() || specials == nullptr || !specials->is_object()) {
    return Malformed(kWhere, "TemplateProcessing without single or special_tokens");
  }
  bool behind = false;
  std::vector<base::TokenId> before, after;
  for (const Json& item : *single) {
    if (const Json* sequence = Field(item, "Sequence")) {
      EBB_ASSIGN_OR_RETURN(const std::string id, StringField(*sequence, "id", kWhere));
      if (id != "A" || behind) return Malformed(kWhere, "a template of other than one sequence A");
      behind = true;
      continue;
    }
    const Json* special = Field(item, "SpecialToken");
    if (special == nullptr) return Malformed(kWhere, "an unknown template item");
    EBB_ASSIGN_OR_RETURN(const std::string name, StringField(*special, "id", kWhere));
    const Json* entry = Field(*specials, name.c_str());
    const Json* ids = entry == nullptr ? nullptr : Field(*entry, "ids");
    if (ids == nullptr || !ids->is_array()) return Malformed(kWhere, "a special token without ids");
    for (const Json& id : *ids) {
      if (!id.is_number_unsigned() || id.get<uint64_t>() >= definition.tokens.size()) {
        return Malformed(kWhere, "a special token whose id is not in the vocabulary");
      }
      (behind ? after : before).push_back(id.get<base::TokenId>());
    }
  }
  if (!behind) return Malformed(kWhere, "a template without the sequence A");
  definition.prefix.insert(definition.prefix.begin(), before.begin(), before.end());
  definition.suffix.insert(definition.suffix.end(), after.begin(), after.end());
  return absl::OkStatus();
}

}  // namespace

absl::Status Malformed(std::string_view where, std::string_view what) {
  return absl::InvalidArgumentError(Concat({"tokenizer.json: ", where, ": ", what}));
}

const Json* Field(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

absl::StatusOr<std::string> StringField(const Json& object, const char* key,
                                        std::string_view where) {
  const Json* value = Field(object, key);
  if (value == nullptr || !value->is_string()) {
    return Malformed(where, Concat({"\"", key, "\" is missing or no string"}));
  }
  return value->get<std::string>();
}

absl::StatusOr<bool> BoolField(const Json& object, const char* key, bool otherwise,
                               std::string_view where) {
  const Json* value = Field(object, key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean())
    return Malformed(where, Concat({"\"", key, "\" is neither true nor false"}));
  return value->get<bool>();
}

absl::StatusOr<std::vector<NormalizerStep>> ParseNormalizer(const Json* json) {
  constexpr std::string_view kWhere = "normalizer";
  EBB_ASSIGN_OR_RETURN(const auto steps, StepsOf(json, "normalizers", kWhere));
  std::vector<NormalizerStep> result;
  for (const Json* step : steps) {
    EBB_ASSIGN_OR_RETURN(const std::string type, StringField(*step, "type", kWhere));
    if (type == "NFC") {
      result.emplace_back(NormalizationForm::kNfc);
    } else if (type == "NFD") {
      result.emplace_back(NormalizationForm::kNfd);
    } else if (type == "NFKC") {
      result.emplace_back(NormalizationForm::kNfkc);
    } else if (type == "NFKD") {
      result.emplace_back(NormalizationForm::kNfkd);
    } else if (type == "Prepend") {
      EBB_ASSIGN_OR_RETURN(std::string prefix, InsertedField(*step, "prepend", kWhere));
      result.emplace_back(PrependNormalizer{std::move(prefix)});
    } else if (type == "Replace") {
      ReplaceNormalizer replace;
      EBB_ASSIGN_OR_RETURN(replace.pattern, ParsePattern(*step, kWhere));
      EBB_ASSIGN_OR_RETURN(replace.content, InsertedField(*step, "content", kWhere));
      result.emplace_back(std::move(replace));
    } else {
      return UnsupportedStep("normalizer", type,
                             "NFC, NFD, NFKC, NFKD, Prepend, Replace and Sequence");
    }
  }
  return result;
}

absl::StatusOr<ParsedPreTokenizer> ParsePreTokenizer(const Json* json) {
  EBB_ASSIGN_OR_RETURN(const auto steps, StepsOf(json, "pretokenizers", "pre_tokenizer"));
  ParsedPreTokenizer result;
  for (const Json* step : steps) EBB_RETURN_IF_ERROR(AddPreTokenizerStep(*step, result));
  return result;
}

absl::StatusOr<DecoderRules> ParseDecoder(const Json* json) {
  EBB_ASSIGN_OR_RETURN(const auto steps, StepsOf(json, "decoders", "decoder"));
  if (steps.empty())
    return Malformed("decoder", "missing, so that tokens cannot be turned into text");
  DecoderRules rules;
  bool fused = false;
  for (const Json* step : steps) EBB_RETURN_IF_ERROR(AddDecoderStep(*step, fused, rules));
  return rules;
}

absl::Status ParsePostProcessor(const Json* json, TokenizerDefinition& definition) {
  EBB_ASSIGN_OR_RETURN(const auto steps, StepsOf(json, "processors", "post_processor"));
  for (const Json* step : steps) {
    EBB_ASSIGN_OR_RETURN(const std::string type, StringField(*step, "type", "post_processor"));
    if (type == "TemplateProcessing") {
      EBB_RETURN_IF_ERROR(ParseTemplate(*step, definition));
    } else if (type != "ByteLevel") {  // which concerns offsets only
      return UnsupportedStep("post-processor", type, "TemplateProcessing, ByteLevel and Sequence");
    }
  }
  if (!definition.prefix.empty()) definition.bos = definition.prefix.front();
  return absl::OkStatus();
}

}  // namespace ebbinghaus::text
