#include "server/text/tokenizer_json_steps.h"

#include <optional>
#include <utility>

#include "server/base/status_macros.h"
#include "server/text/tokenizer_strings.h"

namespace ebbinghaus::text {
namespace {

constexpr size_t kMaxSteps = 64;
// \w+|[^\w\s]+ of an engine whose \w holds the joiners too.
constexpr std::string_view kWordsAndOthers =
    R"([\w\x{200c}\x{200d}]+|[^\w\x{200c}\x{200d}\s]+)";
constexpr size_t kMaxInsertedBytes = 256;  // what a step may put into a text at one place

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

absl::StatusOr<SplitBehavior> ParseBehavior(const Json& step, std::string_view where) {
  EBB_ASSIGN_OR_RETURN(const std::string name, StringField(step, "behavior", where));
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return Malformed(where, Concat({"unknown behavior ", Quoted(name)}));
}

SplitStep RegexSplit(std::string_view pattern, SplitBehavior behavior, bool invert) {
  return {*Regex::Compile(pattern), behavior, invert};
}

// A byte-level step that others follow spells its bytes out; the last one is left to the model.
absl::Status AddByteLevel(const Json& step, bool last, ParsedPreTokenizer& result) {
  constexpr std::string_view kWhere = "pre_tokenizer";
  EBB_ASSIGN_OR_RETURN(const bool prefix, BoolField(step, "add_prefix_space", true, kWhere));
  EBB_ASSIGN_OR_RETURN(const bool use_regex, BoolField(step, "use_regex", true, kWhere));
  if (prefix) result.steps.emplace_back(PrefixSpaceStep{});
  if (use_regex) {
    result.steps.emplace_back(RegexSplit(kGpt2Split, SplitBehavior::kIsolated, false));
  }
  if (last) {
    result.byte_level = true;
  } else {
    result.steps.emplace_back(SpellBytesStep{});
  }
  return absl::OkStatus();
}

absl::StatusOr<SplitStep> ParseDelimiter(const Json& step, std::string_view where) {
  EBB_ASSIGN_OR_RETURN(std::string delimiter, InsertedField(step, "delimiter", where));
  if (delimiter.empty()) return Malformed(where, "an empty delimiter");
  return SplitStep{std::move(delimiter), SplitBehavior::kRemoved, false};
}

absl::Status AddPreTokenizerStep(const Json& step, bool last, ParsedPreTokenizer& result) {
  constexpr std::string_view kWhere = "pre_tokenizer";
  EBB_ASSIGN_OR_RETURN(const std::string type, StringField(step, "type", kWhere));
  auto& steps = result.steps;
  if (type == "Split") {
    SplitStep split;
    EBB_ASSIGN_OR_RETURN(split.pattern, ParsePattern(step, kWhere));
    EBB_ASSIGN_OR_RETURN(split.behavior, ParseBehavior(step, kWhere));
    EBB_ASSIGN_OR_RETURN(split.invert, BoolField(step, "invert", false, kWhere));
    steps.emplace_back(std::move(split));
  } else if (type == "Digits") {
    EBB_ASSIGN_OR_RETURN(const bool individual,
                         BoolField(step, "individual_digits", false, kWhere));
    steps.emplace_back(DigitsStep{individual});
  } else if (type == "Punctuation") {
    PunctuationStep punctuation;
    if (Field(step, "behavior") != nullptr) {
      EBB_ASSIGN_OR_RETURN(punctuation.behavior, ParseBehavior(step, kWhere));
    }
    steps.emplace_back(punctuation);
  } else if (type == "Metaspace") {
    EBB_ASSIGN_OR_RETURN(MetaspaceStep metaspace, ParseMetaspace(step, kWhere));
    steps.emplace_back(std::move(metaspace));
  } else if (type == "ByteLevel") {
    return AddByteLevel(step, last, result);
  } else if (type == "Whitespace") {
    steps.emplace_back(RegexSplit(kWordsAndOthers, SplitBehavior::kRemoved, true));
  } else if (type == "WhitespaceSplit") {
    steps.emplace_back(WhitespaceStep{});
  } else if (type == "BertPreTokenizer") {
    steps.emplace_back(WhitespaceStep{});
    steps.emplace_back(PunctuationStep{});
  } else if (type == "UnicodeScripts") {
    steps.emplace_back(ScriptsStep{});
  } else if (type == "CharDelimiterSplit") {
    EBB_ASSIGN_OR_RETURN(SplitStep split, ParseDelimiter(step, kWhere));
    steps.emplace_back(std::move(split));
  } else if (type == "FixedLength") {
    EBB_ASSIGN_OR_RETURN(const uint32_t length, CountField(step, "length", 5, kWhere));
    if (length == 0) return Malformed(kWhere, "a FixedLength of 0");
    steps.emplace_back(FixedLengthStep{length});
  } else {
    return UnsupportedStep("pre-tokenizer", type,
                           "Split, Digits, Punctuation, Metaspace, ByteLevel, Whitespace, "
                           "WhitespaceSplit, BertPreTokenizer, UnicodeScripts, "
                           "CharDelimiterSplit, FixedLength and Sequence");
  }
  return absl::OkStatus();
}

// The id of ["[CLS]", 101].
absl::StatusOr<base::TokenId> PairedId(const Json& step, const char* key,
                                       const TokenizerDefinition& definition) {
  const Json* pair = Field(step, key);
  if (pair == nullptr || !pair->is_array() || pair->size() != 2 ||
      !(*pair)[1].is_number_unsigned() ||
      (*pair)[1].get<uint64_t>() >= definition.tokens.size()) {
    return Malformed("post_processor",
                     Concat({"\"", key, "\" is no pair of a token and its id in the vocabulary"}));
  }
  return (*pair)[1].get<base::TokenId>();
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

absl::Status UnsupportedStep(std::string_view kind, std::string_view type, std::string_view known) {
  return absl::InvalidArgumentError(Concat({"tokenizer.json: the ", kind, " ", Quoted(type),
                                            " is not supported; supported are ", known}));
}

absl::StatusOr<std::vector<const Json*>> StepsOf(const Json* json, const char* list,
                                                 std::string_view where) {
  std::vector<const Json*> steps;
  if (json != nullptr) EBB_RETURN_IF_ERROR(Flatten(*json, list, where, steps));
  return steps;
}

absl::StatusOr<std::string> InsertedField(const Json& step, const char* key,
                                          std::string_view where) {
  EBB_ASSIGN_OR_RETURN(std::string text, StringField(step, key, where));
  if (text.size() > kMaxInsertedBytes)
    return Malformed(where, Concat({key, " is longer than 256 bytes"}));
  return text;
}

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

absl::StatusOr<uint32_t> CountField(const Json& object, const char* key, uint32_t otherwise,
                                    std::string_view where) {
  const Json* value = Field(object, key);
  if (value == nullptr) return otherwise;
  if (!value->is_number_unsigned() || value->get<uint64_t>() > UINT32_MAX) {
    return Malformed(where, Concat({"\"", key, "\" is no number from 0 to 4294967295"}));
  }
  return value->get<uint32_t>();
}

absl::StatusOr<ParsedPreTokenizer> ParsePreTokenizer(const Json* json) {
  EBB_ASSIGN_OR_RETURN(const auto steps, StepsOf(json, "pretokenizers", "pre_tokenizer"));
  ParsedPreTokenizer result;
  for (const Json* step : steps) {
    EBB_RETURN_IF_ERROR(AddPreTokenizerStep(*step, step == steps.back(), result));
  }
  return result;
}

absl::Status ParsePostProcessor(const Json* json, TokenizerDefinition& definition) {
  EBB_ASSIGN_OR_RETURN(const auto steps, StepsOf(json, "processors", "post_processor"));
  for (const Json* step : steps) {
    EBB_ASSIGN_OR_RETURN(const std::string type, StringField(*step, "type", "post_processor"));
    if (type == "TemplateProcessing") {
      EBB_RETURN_IF_ERROR(ParseTemplate(*step, definition));
    } else if (type == "RobertaProcessing" || type == "BertProcessing") {
      EBB_ASSIGN_OR_RETURN(const base::TokenId first, PairedId(*step, "cls", definition));
      EBB_ASSIGN_OR_RETURN(const base::TokenId last, PairedId(*step, "sep", definition));
      definition.prefix.insert(definition.prefix.begin(), first);
      definition.suffix.push_back(last);
    } else if (type != "ByteLevel") {  // which concerns offsets only
      return UnsupportedStep(
          "post-processor", type,
          "TemplateProcessing, RobertaProcessing, BertProcessing, ByteLevel and Sequence");
    }
  }
  if (!definition.prefix.empty()) definition.bos = definition.prefix.front();
  return absl::OkStatus();
}

}  // namespace ebbinghaus::text
