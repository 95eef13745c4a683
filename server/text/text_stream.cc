#include "server/text/text_stream.h"

#include <algorithm>
#include <utility>

namespace ebbinghaus::text {

TokenDecoder::TokenDecoder(const Tokenizer* tokenizer, bool skip_special)
    : tokenizer_(tokenizer), skip_special_(skip_special), leading_(tokenizer->leading_space()) {}

std::string TokenDecoder::Add(base::TokenId id) {
  if (id >= tokenizer_->size()) return "";
  if (skip_special_ && tokenizer_->IsSpecial(id)) return "";
  std::string_view piece = tokenizer_->Piece(id);
  switch (leading_.rule) {
    case LeadingSpace::Rule::kKeep:
      return utf8_.Add(piece);
    case LeadingSpace::Rule::kStripFirstToken: {
      leading_ = {};
      std::string stripped(piece);
      stripped.erase(std::remove(stripped.begin(), stripped.end(), ' '), stripped.end());
      return utf8_.Add(stripped);
    }
    case LeadingSpace::Rule::kStrip:
      while (leading_.count > 0 && !piece.empty() && piece.front() == ' ') {
        piece.remove_prefix(1);
        --leading_.count;
      }
      if (leading_.count == 0 || !piece.empty()) leading_ = {};
      return utf8_.Add(piece);
  }
  return "";
}

StopStringFinder::StopStringFinder(std::vector<std::string> stops) : stops_(std::move(stops)) {
  stops_.erase(std::remove(stops_.begin(), stops_.end(), ""), stops_.end());
  std::stable_sort(stops_.begin(), stops_.end(),
                   [](const std::string& a, const std::string& b) { return a.size() < b.size(); });
}

std::string StopStringFinder::Add(std::string_view text) {
  if (matched_.has_value()) return "";
  if (stops_.empty()) return std::string(text);
  held_ += text;
  return Release(false);
}

std::string StopStringFinder::Finish() { return Release(true); }

// Walks the held text from its beginning: a place is passed once no stop string can begin there.
std::string StopStringFinder::Release(bool final) {
  const std::string_view held = held_;
  size_t at = 0;
  for (; at < held.size(); ++at) {
    const std::string_view rest = held.substr(at);
    bool open = false;
    for (const std::string& stop : stops_) {
      if (rest.substr(0, stop.size()) == stop) {
        matched_ = stop;
        std::string out(held.substr(0, at));
        held_.clear();
        return out;
      }
      open |= rest.size() < stop.size() && std::string_view(stop).substr(0, rest.size()) == rest;
    }
    if (open && !final) break;
  }
  std::string out(held.substr(0, at));
  held_.erase(0, at);
  return out;
}

TextStream::TextStream(std::shared_ptr<const Tokenizer> tokenizer, std::vector<std::string> stops)
    : tokenizer_(std::move(tokenizer)),
      decoder_(tokenizer_.get(), /*skip_special=*/true),
      stops_(std::move(stops)) {}

std::string TextStream::Add(base::TokenId id) { return stops_.Add(decoder_.Add(id)); }

std::string TextStream::Finish() {
  std::string text = stops_.Add(decoder_.Finish());
  return text += stops_.Finish();
}

}  // namespace ebbinghaus::text
