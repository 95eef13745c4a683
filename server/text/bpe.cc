#include "server/text/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "absl/strings/str_format.h"
#include "server/text/tokenizer_strings.h"
#include "server/text/unicode.h"

namespace ebbinghaus::text {
namespace {

constexpr uint32_t kNoSymbol = UINT32_MAX;

// The queue's order: lowest rank first, then leftmost.
bool Later(const BpeScratch::Candidate& a, const BpeScratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
}

size_t Mix(uint64_t pair) {
  pair *= 0x9E3779B97F4A7C15;
  return static_cast<size_t>(pair ^ (pair >> 32));
}

}  // namespace

TokenIndex::TokenIndex(size_t capacity) : entries_(std::bit_ceil(2 * capacity + 1)) {}

size_t TokenIndex::Probe(std::string_view text) const {
  const size_t mask = entries_.size() - 1;
  size_t at = std::hash<std::string_view>()(text) & mask;
  while (entries_[at].id != kNoToken &&
         std::string_view(arena_).substr(entries_[at].begin, entries_[at].size) != text) {
    at = (at + 1) & mask;
  }
  return at;
}

bool TokenIndex::Insert(std::string_view text, base::TokenId id) {
  Entry& entry = entries_[Probe(text)];
  if (entry.id != kNoToken) return false;
  entry = {arena_.size(), static_cast<uint32_t>(text.size()), id};
  arena_ += text;
  return true;
}

base::TokenId TokenIndex::Find(std::string_view text) const {
  return entries_.empty() ? kNoToken : entries_[Probe(text)].id;
}

Bpe::Bpe(absl::Span<const std::optional<std::string>> texts, absl::Span<const BpeMerge> merges,
         const BpeOptions& options, std::vector<BpeDetour> detours,
         absl::Span<const std::pair<std::string, base::TokenId>> aliases)
    : options_(options),
      first_detour_(static_cast<base::TokenId>(texts.size())),
      detours_(std::move(detours)),
      index_(texts.size() + detours_.size() + aliases.size()),
      merges_(std::bit_ceil(2 * merges.size() + 1)) {
  for (base::TokenId id = 0; id < texts.size(); ++id) {
    if (texts[id].has_value()) index_.Insert(*texts[id], id);
  }
  for (const auto& [text, id] : aliases) index_.Insert(text, id);
  for (size_t i = 0; i < detours_.size(); ++i) {
    index_.Insert(detours_[i].text, first_detour_ + static_cast<base::TokenId>(i));
  }
  for (const BpeMerge& merge : merges) AddMerge(merge);
  for (int byte = 0; byte < 256; ++byte) {
    byte_symbols_[byte] = index_.Find(std::string(1, static_cast<char>(byte)));
    fallback_bytes_[byte] = index_.Find(absl::StrFormat("<0x%02X>", byte));
  }
}

void Bpe::AddMerge(const BpeMerge& merge) {
  const uint64_t pair = (static_cast<uint64_t>(merge.left) << 32) | merge.right;
  const size_t mask = merges_.size() - 1;
  size_t at = Mix(pair) & mask;
  while (merges_[at].pair != UINT64_MAX && merges_[at].pair != pair) at = (at + 1) & mask;
  merges_[at] = {pair, merge.rank, merge.result};
}

const Bpe::MergeEntry* Bpe::FindMerge(base::TokenId left, base::TokenId right) const {
  const uint64_t pair = (static_cast<uint64_t>(left) << 32) | right;
  const size_t mask = merges_.size() - 1;
  for (size_t at = Mix(pair) & mask; merges_[at].pair != UINT64_MAX; at = (at + 1) & mask) {
    if (merges_[at].pair == pair) return &merges_[at];
  }
  return nullptr;
}

void Bpe::Encode(std::string_view piece, EncodeStop& stop, BpeScratch& scratch,
                 std::vector<base::TokenId>& out) const {
  if (piece.empty()) return;
  if (options_.ignore_merges ||
      (options_.whole_newlines && piece.find_first_not_of('\n') == std::string_view::npos)) {
    if (const base::TokenId whole = index_.Find(piece); whole < first_detour_) {
      out.push_back(whole);
      return;
    }
  }
  if (!StartSymbols(piece, stop, scratch) || !MergeSymbols(stop, scratch)) return;  // cancelled
  for (const BpeScratch::Symbol& symbol : scratch.symbols) {
    if (symbol.id == kNoToken) continue;
    if (symbol.id < first_detour_) {
      out.push_back(symbol.id);
    } else {
      const auto& tokens = detours_[symbol.id - first_detour_].tokens;
      out.insert(out.end(), tokens.begin(), tokens.end());
    }
  }
}

bool Bpe::StartSymbols(std::string_view piece, EncodeStop& stop, BpeScratch& scratch) const {
  auto& symbols = scratch.symbols;
  symbols.clear();
  const auto add = [&](base::TokenId id) { symbols.push_back({.id = id}); };
  bool first = true;
  bool unknown_pending = false;  // an unknown token that may still grow
  const auto flush_unknown = [&] {
    if (unknown_pending) add(options_.unknown);
    unknown_pending = false;
  };
  const bool affixes = !options_.continuing_prefix.empty() || !options_.word_suffix.empty();
  std::string affixed;
  while (!piece.empty()) {
    if (stop.Cancelled(1)) return false;
    const size_t size = options_.byte_level ? 1 : DecodeUtf8(piece).size;
    std::string_view character = piece.substr(0, size);
    piece.remove_prefix(size);
    if (affixes) {
      affixed = Concat({first ? "" : options_.continuing_prefix, character,
                        piece.empty() ? options_.word_suffix : ""});
      character = affixed;
      first = false;
    }
    const base::TokenId id = options_.byte_level ? byte_symbols_[static_cast<uint8_t>(character[0])]
                                                 : index_.Find(character);
    if (id != kNoToken) {
      flush_unknown();
      add(id);
      continue;
    }
    const auto fallback = [&](char byte) { return fallback_bytes_[static_cast<uint8_t>(byte)]; };
    if (options_.byte_fallback && std::all_of(character.begin(), character.end(), [&](char byte) {
          return fallback(byte) != kNoToken;
        })) {
      // As the reference does, a pending unknown token stays pending and so ends up behind these
      // bytes.
      for (const char byte : character) add(fallback(byte));
    } else if (options_.unknown != kNoToken) {
      if (!options_.fuse_unknown) flush_unknown();
      unknown_pending = true;
    }
  }
  flush_unknown();
  return true;
}

// Queues the merge of the symbol at `at` with its right neighbour, if there is one.
void Bpe::Queue(uint32_t at, BpeScratch& scratch) const {
  const BpeScratch::Symbol& left = scratch.symbols[at];
  if (left.next == kNoSymbol) return;
  const MergeEntry* merge = FindMerge(left.id, scratch.symbols[left.next].id);
  if (merge == nullptr) return;
  scratch.queue.push_back({merge->rank, at, merge->result});
  std::push_heap(scratch.queue.begin(), scratch.queue.end(), Later);
  ++scratch.queued;
}

bool Bpe::MergeSymbols(EncodeStop& stop, BpeScratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& queue = scratch.queue;
  queue.clear();
  const auto count = static_cast<uint32_t>(symbols.size());
  for (uint32_t i = 0; i < count; ++i) {
    symbols[i].previous = i == 0 ? kNoSymbol : i - 1;
    symbols[i].next = i + 1 == count ? kNoSymbol : i + 1;
  }
  for (uint32_t i = 0; i + 1 < count; ++i) Queue(i, scratch);
  while (!queue.empty()) {
    if (stop.Cancelled(8)) return false;
    std::pop_heap(queue.begin(), queue.end(), Later);
    const BpeScratch::Candidate best = queue.back();
    queue.pop_back();
    BpeScratch::Symbol& left = symbols[best.at];
    if (left.id == kNoToken || left.next == kNoSymbol) continue;
    BpeScratch::Symbol& right = symbols[left.next];
    // Either side may have changed since; as the reference does, the pair counts if it still gives
    // the same token.
    const MergeEntry* merge = FindMerge(left.id, right.id);
    if (merge == nullptr || merge->result != best.result) continue;
    left.id = best.result;
    right.id = kNoToken;
    left.next = right.next;
    if (left.next != kNoSymbol) symbols[left.next].previous = best.at;
    if (left.previous != kNoSymbol) Queue(left.previous, scratch);
    Queue(best.at, scratch);
  }
  return true;
}

}  // namespace ebbinghaus::text
