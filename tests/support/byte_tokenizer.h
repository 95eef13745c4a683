// A tokenizer whose behaviour is plain: every byte is the token of its value.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/text/text_model.h"
#include "server/text/tokenizer.h"

namespace ebbinghaus::support {

inline constexpr base::TokenId kEosToken = 256;  // special
inline constexpr base::TokenId kLongToken = 257;
inline constexpr std::string_view kLongPiece = "wonderful";
inline constexpr uint32_t kByteVocabulary = 258;

class ByteTokenizer final : public text::Tokenizer {
 public:
  ByteTokenizer() {
    for (int i = 0; i < 256; ++i) pieces_.emplace_back(1, static_cast<char>(i));
    pieces_.emplace_back("<eos>");
    pieces_.emplace_back(kLongPiece);
  }
  std::string_view Piece(base::TokenId id) const override { return pieces_[id]; }
  bool IsSpecial(base::TokenId id) const override { return id == kEosToken; }
  uint32_t size() const override { return kByteVocabulary; }
  std::optional<base::TokenId> bos_token_id() const override { return std::nullopt; }
  bool adds_bos() const override { return false; }

 private:
  std::vector<base::TokenId> DoEncode(absl::Span<const text::TextSegment> segments, bool,
                                      const text::EncodeLimits&) const override {
    std::vector<base::TokenId> ids;
    for (const text::TextSegment& segment : segments) {
      for (const char c : segment.text) ids.push_back(static_cast<unsigned char>(c));
    }
    return ids;
  }

  std::vector<std::string> pieces_;
};

// Without a chat template.
inline std::shared_ptr<text::TextModel> ByteTextModel() {
  auto model = std::make_shared<text::TextModel>();
  model->tokenizer = std::make_shared<ByteTokenizer>();
  model->eos_token_ids = {kEosToken};
  return model;
}

}  // namespace ebbinghaus::support
