// A checkpoint's text side: tokenizer, chat template and end tokens.
#pragma once

#include "absl/status/statusor.h"
#include "server/model/checkpoint.h"
#include "server/text/text_model.h"

namespace ebbinghaus::model {

// Errors: InvalidArgument for a tokenizer or a chat template that is malformed or unsupported; better no server than one that
// builds wrong prompts.
absl::StatusOr<text::TextModel> LoadTextModel(const Checkpoint& checkpoint);

}  // namespace ebbinghaus::model
