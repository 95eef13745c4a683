// Reads the processing steps of a tokenizer.json. Private to this room.
#pragma once

#include <string>
#include <string_view>
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

struct ParsedPreTokenizer {
  std::vector<PreTokenizerStep> steps;
  bool byte_level = false;
};

// Each takes the value of the field of that name, or nullptr. Errors: InvalidArgument that names
// the step.
absl::StatusOr<std::vector<NormalizerStep>> ParseNormalizer(const Json* json);
absl::StatusOr<ParsedPreTokenizer> ParsePreTokenizer(const Json* json);
absl::StatusOr<DecoderRules> ParseDecoder(const Json* json);
// Fills definition.prefix, suffix and bos. Requires: definition.tokens is filled.
absl::Status ParsePostProcessor(const Json* json, TokenizerDefinition& definition);

}  // namespace ebbinghaus::text
