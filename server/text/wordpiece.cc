#include "server/text/wordpiece.h"

#include <algorithm>
#include <utility>

namespace ebbinghaus::text {
namespace {

bool ContinuesCharacter(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) == 0x80; }

}  // namespace

WordPiece::WordPiece(absl::Span<const std::optional<std::string>> texts,
                     absl::Span<const std::pair<std::string, base::TokenId>> aliases,
                     WordPieceOptions options)
    : options_(std::move(options)), index_(texts.size() + aliases.size()) {
  for (base::TokenId id = 0; id < texts.size(); ++id) {
    if (!texts[id].has_value()) continue;
    index_.Insert(*texts[id], id);
    longest_ = std::max(longest_, texts[id]->size());
  }
  for (const auto& [text, id] : aliases) {
    index_.Insert(text, id);
    longest_ = std::max(longest_, text.size());
  }
}

void WordPiece::Encode(std::string_view word, EncodeStop& stop,
                       std::vector<base::TokenId>& out) const {
  const size_t before = out.size();
  const auto give_up = [&] {
    out.resize(before);
    if (options_.unknown != kNoToken) out.push_back(options_.unknown);
  };
  if (options_.whole_words) {
    const base::TokenId id = index_.Find(word);
    if (id == kNoToken) return give_up();
    return out.push_back(id);
  }
  const size_t characters =
      word.size() - std::count_if(word.begin(), word.end(), ContinuesCharacter);
  if (characters > options_.max_word_characters) return give_up();
  std::string prefixed;
  for (size_t begin = 0; begin < word.size();) {
    size_t end = std::min(word.size(), begin + longest_);
    base::TokenId found = kNoToken;
    for (; end > begin; --end) {
      if (end < word.size() && ContinuesCharacter(word[end])) continue;
      if (stop.Cancelled(4)) return out.resize(before);
      std::string_view part = word.substr(begin, end - begin);
      if (begin > 0 && !options_.continuing_prefix.empty()) {
        prefixed = options_.continuing_prefix;
        part = prefixed += part;
      }
      if ((found = index_.Find(part)) != kNoToken) break;
    }
    if (found == kNoToken) return give_up();
    out.push_back(found);
    begin = end;
  }
}

}  // namespace ebbinghaus::text
