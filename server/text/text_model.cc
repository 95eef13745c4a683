#include "server/text/text_model.h"

#include <algorithm>

#include "absl/status/status.h"
#include "server/base/status_macros.h"

namespace ebbinghaus::text {

std::vector<base::TokenId> TextModel::EncodeText(std::string_view text, bool parse_special) const {
  return tokenizer->Encode(text, {.add_special_tokens = true, .parse_special = parse_special});
}

absl::StatusOr<std::vector<base::TokenId>> TextModel::EncodeChat(
    absl::Span<const ChatMessage> messages, bool parse_special) const {
  if (!chat_template.has_value()) {
    return absl::FailedPreconditionError("the model has no chat template");
  }
  EBB_ASSIGN_OR_RETURN(
      const std::vector<RenderedSegment> rendered,
      chat_template->RenderSegments(messages, /*add_generation_prompt=*/true, now()));
  std::vector<TextSegment> segments;
  segments.reserve(rendered.size());
  for (const RenderedSegment& segment : rendered) {
    segments.push_back({segment.text, !segment.from_message || parse_special});
  }
  std::vector<base::TokenId> ids =
      tokenizer->EncodeSegments(segments, /*add_special_tokens=*/false);
  if (tokenizer->adds_bos()) {
    const base::TokenId bos = *tokenizer->bos_token_id();
    if (std::find(ids.begin(), ids.end(), bos) == ids.end()) ids.insert(ids.begin(), bos);
  }
  return ids;
}

std::string TextModel::Decode(absl::Span<const base::TokenId> ids) const {
  return tokenizer->Decode(ids, /*skip_special=*/false);
}

std::vector<std::string> TextModel::Pieces(absl::Span<const base::TokenId> ids) const {
  std::vector<std::string> pieces;
  pieces.reserve(ids.size());
  for (const base::TokenId id : ids) {
    pieces.emplace_back(id < tokenizer->size() ? tokenizer->Piece(id) : std::string_view());
  }
  return pieces;
}

}  // namespace ebbinghaus::text
