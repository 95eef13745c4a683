// Reads the processing steps of a tokenizer.json. Private to this room.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "server/text/tokenizer_definition.h"

namespace ebbinghaus::text {

using Json = nlohmann::json;

// Fields of a JSON object with the error that names them. `where` is the object's place, for
// messages. Errors: InvalidArgument for the wrong type, or when a field without default is missing.
absl::StatusOr<std::string> StringField(const Json& object, const char* key,
                                        std::string_view where);
absl::StatusOr<bool> BoolField(const Json& object, const char* key, bool otherwise,
                               std::string_view where);
absl::Status Malformed(std::string_view where, std::string_view what);
// nullptr when absent or null.
const Json* Field(const Json& object, const char* key);

absl::StatusOr<uint32_t> CountField(const Json& object, const char* key, uint32_t otherwise,
                                    std::string_view where);
// A text that a step puts in, of bounded length.
absl::StatusOr<std::string> InsertedField(const Json& step, const char* key,
                                          std::string_view where);

// The steps of a field, each Sequence opened as deep as it goes; `list` is its array.
absl::StatusOr<std::vector<const Json*>> StepsOf(const Json* json, const char* list,
                                                 std::string_view where);
absl::Status UnsupportedStep(std::string_view kind, std::string_view type, std::string_view known);
// {"String": s} stands for itself, {"Regex": r} for an expression.
absl::StatusOr<std::variant<std::string, Regex>> ParsePattern(const Json& step,
                                                              std::string_view where);
absl::StatusOr<MetaspaceStep> ParseMetaspace(const Json& step, std::string_view where);

struct ParsedPreTokenizer {
  std::vector<PreTokenizerStep> steps;
  bool byte_level = false;  // the pieces are to be taken for bytes, which the last step asks for
};

// Each takes the value of the field of that name, or nullptr. Errors: InvalidArgument that names
// the step.
absl::StatusOr<std::vector<NormalizerStep>> ParseNormalizer(const Json* json);
absl::StatusOr<ParsedPreTokenizer> ParsePreTokenizer(const Json* json);
absl::StatusOr<DecoderRules> ParseDecoder(const Json* json);
// Fills tokens, matchable, aliases, added and model from the fields `model` and `added_tokens`.
// `byte_level`: as in ParsedPreTokenizer; cleared where the model needs the bytes spelled out.
absl::Status ParseModel(const Json& root, bool& byte_level, TokenizerDefinition& definition);
// Fills definition.prefix, suffix and bos. Requires: definition.tokens is filled.
absl::Status ParsePostProcessor(const Json* json, TokenizerDefinition& definition);

}  // namespace ebbinghaus::text
