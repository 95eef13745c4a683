#include "server/text/text_stream.h"

#include <algorithm>
#include <utility>

namespace ebbinghaus::text {
namespace {

// More tokens than those whose bytes can still be open at the end of a text.
constexpr size_t kOpenTokens = 64;

enum class Comparison { kDiffers, kOpen, kMatches };

// Whether `text`, read from `at`, begins with `stop`. `hidden`: by byte, what to leave out; empty for
// nothing.
Comparison Compare(std::string_view text, std::string_view hidden, size_t at,
                   std::string_view stop) {
  for (size_t i = 0; i < stop.size(); ++at) {
    if (at == text.size()) return Comparison::kOpen;
    if (!hidden.empty() && hidden[at] != '\0') continue;
    if (text[at] != stop[i++]) return Comparison::kDiffers;
  }
  return Comparison::kMatches;
}

}  // namespace

TokenDecoder::TokenDecoder(const Tokenizer* tokenizer, bool skip_special)
    : tokenizer_(tokenizer), skip_special_(skip_special), ends_(tokenizer->text_ends()) {}

void TokenDecoder::Continue(absl::Span<const base::TokenId> prompt) {
  size_t at = 0;
  while (at < prompt.size() && (first_ || ends_.at_start > 0)) Add(prompt[at++]);
  // What lies between leaves no trace.
  at = std::max(at, prompt.size() - std::min(prompt.size(), kOpenTokens));
  while (at < prompt.size()) Add(prompt[at++]);
}

std::string TokenDecoder::Add(base::TokenId id) {
  if (id >= tokenizer_->size()) return "";
  if (skip_special_ && tokenizer_->IsSpecial(id)) return "";
  std::string text =
      first_ ? utf8_.Add(tokenizer_->FirstPiece(id)) : utf8_.Add(tokenizer_->Piece(id));
  first_ = false;
  return Strip(std::move(text));
}

std::string TokenDecoder::Finish() {
  std::string text = Strip(utf8_.Finish());
  held_end_.clear();
  return text;
}

std::string TokenDecoder::Strip(std::string text) {
  const std::string& c = ends_.character;
  size_t begin = 0;
  for (; ends_.at_start > 0 && text.compare(begin, c.size(), c) == 0; begin += c.size()) {
    --ends_.at_start;
  }
  if (begin < text.size()) ends_.at_start = 0;
  text.erase(0, begin);
  if (ends_.at_end == 0 || text.empty()) return text;
  text.insert(0, held_end_);
  size_t end = text.size();
  for (uint32_t i = 0; i < ends_.at_end && end >= c.size(); ++i, end -= c.size()) {
    if (text.compare(end - c.size(), c.size(), c) != 0) break;
  }
  held_end_ = text.substr(end);
  text.resize(end);
  return text;
}

StopStringFinder::StopStringFinder(std::vector<std::string> stops) : stops_(std::move(stops)) {
  stops_.erase(std::remove(stops_.begin(), stops_.end(), ""), stops_.end());
  std::stable_sort(stops_.begin(), stops_.end(),
                   [](const std::string& a, const std::string& b) { return a.size() < b.size(); });
}

std::string StopStringFinder::Add(std::string_view text, char hidden) {
  if (matched_.has_value()) return "";
  if (stops_.empty()) return std::string(hidden != '\0' ? std::string_view() : text);
  held_ += text;
  hidden_.append(text.size(), hidden);
  return Release(false);
}

std::string StopStringFinder::Finish() { return Release(true); }

std::string StopStringFinder::Visible(size_t end) const {
  std::string visible;
  for (size_t at = 0; at < end; ++at) {
    if (hidden_[at] == '\0') visible += held_[at];
  }
  return visible;
}

// Walks the held text from its beginning: a place is passed once no stop string can begin there.
std::string StopStringFinder::Release(bool final) {
  const bool any_hidden = hidden_.find('\1') != std::string::npos;
  size_t at = 0;
  for (; at < held_.size(); ++at) {
    bool open = false;
    for (const std::string& stop : stops_) {
      Comparison found = Compare(held_, "", at, stop);
      open |= found == Comparison::kOpen;
      if (found != Comparison::kMatches && any_hidden && hidden_[at] == '\0') {
        found = Compare(held_, hidden_, at, stop);
        open |= found == Comparison::kOpen;
      }
      if (found == Comparison::kMatches) {
        matched_ = stop;
        std::string out = Visible(at);
        held_.clear();
        hidden_.clear();
        return out;
      }
    }
    if (open && !final) break;
  }
  std::string out = any_hidden ? Visible(at) : held_.substr(0, at);
  held_.erase(0, at);
  hidden_.erase(0, at);
  return out;
}

TextStream::TextStream(std::shared_ptr<const Tokenizer> tokenizer, std::vector<std::string> stops,
                       absl::Span<const base::TokenId> prompt)
    : tokenizer_(std::move(tokenizer)),
      decoder_(tokenizer_.get(), /*skip_special=*/true),
      stops_(std::move(stops)) {
  decoder_.Continue(prompt);
}

std::string TextStream::Add(base::TokenId id, bool search) {
  std::string text = decoder_.Add(id);
  if (!search) return text;
  if (id < tokenizer_->size() && tokenizer_->IsSpecial(id)) {
    return stops_.AddHidden(tokenizer_->Piece(id));
  }
  return stops_.Add(text);
}

std::string TextStream::Finish() {
  std::string text = stops_.Add(decoder_.Finish());
  return text += stops_.Finish();
}

}  // namespace ebbinghaus::text
