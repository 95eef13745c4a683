#include "server/model/text_loader.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "server/base/status_macros.h"
#include "server/text/control_texts.h"

namespace ebbinghaus::model {
namespace {

absl::StatusOr<std::shared_ptr<const text::Tokenizer>> LoadTokenizer(const Checkpoint& checkpoint) {
  if (const auto* json = std::get_if<std::string>(&checkpoint.tokenizer())) {
    text::TokenizerSettings settings = checkpoint.tokenizer_settings();
    settings.max_tokens =
        static_cast<uint32_t>(std::min<int64_t>(checkpoint.config().vocabulary, UINT32_MAX));
    return text::Tokenizer::FromJson(*json, settings);
  }
  return text::Tokenizer::FromGguf(std::get<text::GgufVocabulary>(checkpoint.tokenizer()));
}

// The union of what the files say. A GGUF file names one end or a few, so that its vocabulary is
// looked through for texts that are known to end a turn.
std::vector<base::TokenId> EndsOfText(const Checkpoint& checkpoint,
                                      const text::Tokenizer& tokenizer) {
  const bool gguf = std::holds_alternative<text::GgufVocabulary>(checkpoint.tokenizer());
  std::vector<base::TokenId> ends = checkpoint.config().eos_token_ids;
  std::vector<base::TokenId> returns;  // where these exist, <|end|> ends a message within a turn
  std::optional<base::TokenId> end;
  for (base::TokenId id = 0; id < tokenizer.size(); ++id) {
    if (!tokenizer.IsSpecial(id)) continue;
    const std::string_view name = tokenizer.Piece(id);
    const bool known = gguf && (text::IsEndOfTurn(name) || text::IsEndOfTurnIfControl(name));
    if (!known && (checkpoint.eos_token().empty() || name != checkpoint.eos_token())) continue;
    if (name == "<|return|>" || name == "<|call|>") returns.push_back(id);
    if (std::find(ends.begin(), ends.end(), id) != ends.end()) continue;
    if (name == "<|end|>") end = id;
    ends.push_back(id);
  }
  if (returns.size() == 2 && end.has_value()) std::erase(ends, *end);
  return ends;
}

// A template that cannot be used keeps nobody from text and ids.
void LoadChatTemplate(const Checkpoint& checkpoint, text::TextModel& model) {
  const ChatTemplates& templates = checkpoint.chat_templates();
  model.chat_template_error = templates.problem;
  const auto tool_use = templates.by_name.find("tool_use");
  const bool only_tools = checkpoint.chat_template().empty() && tool_use != templates.by_name.end();
  const std::string& source = only_tools ? tool_use->second : checkpoint.chat_template();
  if (source.empty()) return;
  auto parsed = text::ChatTemplate::Parse(
      source,
      {.bos_token = checkpoint.bos_token(), .eos_token = checkpoint.eos_token(), .others = templates.special_tokens},
      tool_use == templates.by_name.end() ? std::string_view() : std::string_view(tool_use->second));
  if (parsed.ok()) {
    model.chat_template = *std::move(parsed);
    model.chat_template_error.clear();
  } else {
    model.chat_template_error = std::string(parsed.status().message());
  }
}

}  // namespace

absl::StatusOr<text::TextModel> LoadTextModel(const Checkpoint& checkpoint) {
  text::TextModel model;
  EBB_ASSIGN_OR_RETURN(model.tokenizer, LoadTokenizer(checkpoint));
  LoadChatTemplate(checkpoint, model);
  model.eos_token_ids = EndsOfText(checkpoint, *model.tokenizer);
  return model;
}

}  // namespace ebbinghaus::model
