#include "server/model/text_loader.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace ebbinghaus::model {
namespace {

absl::StatusOr<std::shared_ptr<const text::Tokenizer>> LoadTokenizer(const TokenizerSource& source) {
  if (const auto* json = std::get_if<std::string>(&source)) return text::Tokenizer::FromJson(*json);
  return text::Tokenizer::FromGguf(std::get<text::GgufVocabulary>(source));
}

}  // namespace

absl::StatusOr<text::TextModel> LoadTextModel(const Checkpoint& checkpoint) {
  text::TextModel model;
  EBB_ASSIGN_OR_RETURN(model.tokenizer, LoadTokenizer(checkpoint.tokenizer()));
  if (static_cast<int64_t>(model.tokenizer->size()) > checkpoint.config().vocabulary) {
    return absl::InvalidArgumentError(absl::StrCat("the tokenizer has ", model.tokenizer->size(), " tokens, the model only ",
                                                   checkpoint.config().vocabulary));
  }
  if (!checkpoint.chat_template().empty()) {
    EBB_ASSIGN_OR_RETURN(model.chat_template,
                         text::ChatTemplate::Parse(checkpoint.chat_template(),
                                                   {.bos_token = checkpoint.bos_token(), .eos_token = checkpoint.eos_token()}));
  }
  model.eos_token_ids = checkpoint.config().eos_token_ids;
  return model;
}

}  // namespace ebbinghaus::model
