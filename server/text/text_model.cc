#include "server/text/text_model.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace ebbinghaus::text {

std::vector<base::TokenId> TextModel::EncodeText(std::string_view text, bool parse_special,
                                                 const EncodeLimits& limits) const {
  EncodeOptions options{.add_special_tokens = true, .parse_special = parse_special, .limits = limits};
  if (parse_special && limits.max_ids != SIZE_MAX) ++options.limits.max_ids;  // a BOS to spare
  std::vector<base::TokenId> ids = tokenizer->Encode(text, options);
  // The text may spell the BOS that was put before it.
  if (tokenizer->adds_bos() && ids.size() > 1 && ids[0] == ids[1] && ids[0] == tokenizer->bos_token_id()) {
    ids.erase(ids.begin());
  }
  if (ids.size() > limits.max_ids) ids.resize(limits.max_ids);
  return ids;
}

absl::StatusOr<std::vector<base::TokenId>> TextModel::EncodeChat(
    const Chat& chat, bool parse_special, const EncodeLimits& limits) const {
  if (!chat_template.has_value()) {
    return absl::FailedPreconditionError(
        chat_template_error.empty()
            ? "the model has no chat template"
            : absl::StrCat("the model's chat template cannot be used: ", chat_template_error));
  }
  EBB_ASSIGN_OR_RETURN(const std::vector<RenderedSegment> rendered,
                       chat_template->RenderSegments(chat, /*add_generation_prompt=*/true, now(),
                                                     &limits.cancelled));
  std::vector<TextSegment> segments;
  segments.reserve(rendered.size());
  for (const RenderedSegment& segment : rendered) {
    segments.push_back({segment.text, !segment.from_message || parse_special});
  }
  std::vector<base::TokenId> ids =
      tokenizer->EncodeSegments(segments, /*add_special_tokens=*/false, limits);
  PutBosFirst(*tokenizer, ids);
  if (ids.size() > limits.max_ids) ids.resize(limits.max_ids);
  return ids;
}

void PutBosFirst(const Tokenizer& tokenizer, std::vector<base::TokenId>& ids) {
  if (!tokenizer.adds_bos()) return;
  const base::TokenId bos = *tokenizer.bos_token_id();
  if (ids.empty() || ids.front() != bos) ids.insert(ids.begin(), bos);
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
