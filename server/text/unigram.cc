#include "server/text/unigram.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "server/text/unicode.h"

namespace ebbinghaus::text {

using base::TokenId;

Unigram::Unigram(absl::Span<const std::optional<std::string>> texts, UnigramOptions options)
    : options_(std::move(options)) {
  std::vector<TokenId> order;
  for (TokenId id = 0; id < texts.size(); ++id) {
    if (texts[id].has_value() && !texts[id]->empty()) order.push_back(id);
  }
  std::sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
    return *texts[a] != *texts[b] ? *texts[a] < *texts[b] : a > b;
  });
  texts_.Reserve(order.size());
  for (const TokenId id : order) {
    if (!ids_.empty() && *texts[ids_.back()] == *texts[id]) continue;
    texts_.Add(*texts[id]);
    ids_.push_back(id);
    ++first_[static_cast<uint8_t>(texts[id]->front()) + 1];
  }
  texts_.ShrinkToFit();
  for (size_t byte = 0; byte < 256; ++byte) first_[byte + 1] += first_[byte];
  for (int byte = 0; byte < 256; ++byte) {
    fallback_bytes_[byte] = Find(absl::StrFormat("<0x%02X>", byte));
  }
}

TokenId Unigram::Find(std::string_view text) const {
  uint32_t low = 0, high = static_cast<uint32_t>(ids_.size());
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (texts_[middle] < text) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < ids_.size() && texts_[low] == text ? ids_[low] : kNoToken;
}

bool Unigram::FindBest(std::string_view piece, EncodeStop& stop, UnigramScratch& scratch) const {
  auto& nodes = scratch.nodes;
  nodes.assign(piece.size() + 1, {});
  const auto reach = [&](size_t begin, size_t end, TokenId id, double score) {
    UnigramScratch::Node& node = nodes[end];
    if (node.begin != UINT32_MAX && score <= node.score) return;
    node = {score, static_cast<uint32_t>(begin), id};
  };
  for (size_t begin = 0; begin < piece.size();) {
    const size_t character = DecodeUtf8(piece.substr(begin)).size;
    const double here = nodes[begin].score;
    bool covered = false;
    // The tokens that begin like the text from here on, ever fewer with each byte.
    const auto lead = static_cast<uint8_t>(piece[begin]);
    uint32_t low = first_[lead], high = first_[lead + 1];
    size_t length = 1;
    for (; low < high; ++length) {
      if (texts_[low].size() == length) {
        covered |= length == character;
        const TokenId id = ids_[low];
        reach(begin, begin + length, id, here + options_.scores[id]);
        ++low;
      }
      if (begin + length == piece.size()) break;
      const auto next = static_cast<uint8_t>(piece[begin + length]);
      const auto bound = [&](uint32_t from, unsigned byte) {
        uint32_t to = high;
        while (from < to) {
          const uint32_t middle = from + (to - from) / 2;
          if (static_cast<uint8_t>(texts_[middle][length]) < byte) {
            from = middle + 1;
          } else {
            to = middle;
          }
        }
        return from;
      };
      low = bound(low, next);
      high = bound(low, next + 1u);
    }
    if (stop.Cancelled(8 * length)) return false;
    if (!covered) {
      reach(begin, begin + character, options_.unknown, here + options_.unknown_score);
    }
    begin += character;
  }
  return true;
}

void Unigram::AppendUnknown(std::string_view text, std::vector<TokenId>& out) const {
  const TokenId known = Find(text);  // characters that are unknown one by one
  if (known != kNoToken) {
    out.push_back(known);
    return;
  }
  const auto byte_token = [&](char byte) { return fallback_bytes_[static_cast<uint8_t>(byte)]; };
  if (options_.byte_fallback && std::all_of(text.begin(), text.end(), [&](char byte) {
        return byte_token(byte) != kNoToken;
      })) {
    for (const char byte : text) out.push_back(byte_token(byte));
  } else if (options_.unknown != kNoToken) {
    out.push_back(options_.unknown);
  }
}

void Unigram::Encode(std::string_view piece, EncodeStop& stop, UnigramScratch& scratch,
                     std::vector<TokenId>& out) const {
  if (piece.empty() || !FindBest(piece, stop, scratch)) return;
  // Turns the way back to the beginning around, keeping in each node where the next token ends.
  auto& nodes = scratch.nodes;
  uint32_t next = UINT32_MAX;
  for (auto end = static_cast<uint32_t>(piece.size());;) {
    const uint32_t begin = end == 0 ? UINT32_MAX : nodes[end].begin;
    nodes[end].begin = next;
    if (end == 0) break;
    next = end;
    end = begin;
  }
  size_t unknown_from = SIZE_MAX;
  for (size_t begin = 0; begin < piece.size();) {
    const size_t end = nodes[begin].begin;
    const bool unknown = nodes[end].id == options_.unknown;
    if (unknown && unknown_from == SIZE_MAX) unknown_from = begin;
    const bool ends = end == piece.size() || nodes[nodes[end].begin].id != options_.unknown;
    if (!unknown) {
      out.push_back(nodes[end].id);
    } else if (ends || !options_.fuse_unknown) {
      AppendUnknown(piece.substr(unknown_from, end - unknown_from), out);
      unknown_from = SIZE_MAX;
    }
    begin = end;
  }
}

}  // namespace ebbinghaus::text
