// Byte pair encoding of one piece of text: the merges of a definition, applied in the order of
// their rank.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "server/base/ids.h"
#include "server/text/encode_stop.h"

namespace ebbinghaus::text {

inline constexpr base::TokenId kNoToken = UINT32_MAX;

// Strings to ids. Immutable once filled; finding is thread safe.
class TokenIndex {
 public:
  TokenIndex() = default;
  explicit TokenIndex(size_t capacity);
  // False (and no change) when the text is there already. Requires: at most `capacity` insertions.
  bool Insert(std::string_view text, base::TokenId id);
  base::TokenId Find(std::string_view text) const;  // kNoToken when absent

 private:
  struct Entry {
    uint64_t begin = 0;  // in arena_
    uint32_t size = 0;
    base::TokenId id = kNoToken;
  };
  size_t Probe(std::string_view text) const;

  std::string arena_;
  std::vector<Entry> entries_;  // open addressing, a power of two, at most half full
};

struct BpeMerge {
  base::TokenId left = 0;
  base::TokenId right = 0;
  base::TokenId result = 0;
  uint32_t rank = 0;  // lower is earlier; equal ranks go from left to right
};

struct BpeOptions {
  bool byte_level = false;     // symbols start as bytes, else as code points
  bool ignore_merges = false;  // a piece that is a token is that token
  bool whole_newlines = false;  // only a piece of line feeds is
  bool byte_fallback =
      false;  // an unknown code point becomes the tokens <0x00> to <0xFF> of its bytes
  bool fuse_unknown = false;         // a run of unknown code points is one unknown token
  base::TokenId unknown = kNoToken;  // without one, unknown code points vanish
  // Put before every code point but the first of a piece, and behind the last, before they are
  // looked up. Not for byte_level.
  std::string continuing_prefix{}, word_suffix{};
};

// A text that merges lead through without its being a token. What remains of it in the end is cut
// into the tokens of its bytes as far as there are any.
struct BpeDetour {
  std::string text;
  std::vector<base::TokenId> tokens;
};

// Working memory of Bpe::Encode, reused from piece to piece. Not thread safe.
struct BpeScratch {
  struct Symbol {
    base::TokenId id = kNoToken;  // kNoToken: merged into its left neighbour
    uint32_t previous = 0;
    uint32_t next = 0;
  };
  struct Candidate {
    uint32_t rank = 0;
    uint32_t at = 0;
    base::TokenId result = 0;
  };
  std::vector<Symbol> symbols;
  std::vector<Candidate> queue;
  uint64_t queued = 0;  // candidates ever queued: the measure of the work done, for tests
};

// Immutable; thread safe.
class Bpe {
 public:
  Bpe() = default;
  // `texts[id]`: the bytes a token stands for in a piece; nullopt: never matched by its text. Where
  // two tokens have the same text the first is found. Of two merges of the same pair the later
  // counts. Requires: ids in `merges` and `options` < texts.size().
  // The detours have the ids from texts.size() on. `aliases`: more texts of tokens.
  Bpe(absl::Span<const std::optional<std::string>> texts, absl::Span<const BpeMerge> merges,
      const BpeOptions& options, std::vector<BpeDetour> detours = {},
      absl::Span<const std::pair<std::string, base::TokenId>> aliases = {});

  // Appends the tokens of one piece: O(n log n) in its length. None of them once `stop` has cancelled. Requires: piece.size() < 2^32 - 1; valid UTF-8 unless byte_level.
  void Encode(std::string_view piece, EncodeStop& stop, BpeScratch& scratch,
              std::vector<base::TokenId>& out) const;

 private:
  struct MergeEntry {
    uint64_t pair = UINT64_MAX;
    uint32_t rank = 0;
    base::TokenId result = kNoToken;
  };
  const MergeEntry* FindMerge(base::TokenId left, base::TokenId right) const;
  void AddMerge(const BpeMerge& merge);
  bool StartSymbols(std::string_view piece, EncodeStop& stop, BpeScratch& scratch) const;
  bool MergeSymbols(EncodeStop& stop, BpeScratch& scratch) const;
  void Queue(uint32_t at, BpeScratch& scratch) const;

  BpeOptions options_;
  base::TokenId first_detour_ = kNoToken;
  std::vector<BpeDetour> detours_;
  TokenIndex index_;
  std::array<base::TokenId, 256> byte_symbols_{};    // byte_level: each byte's token
  std::array<base::TokenId, 256> fallback_bytes_{};  // <0x00> to <0xFF>
  std::vector<MergeEntry> merges_;  // open addressing, a power of two, at most half full
};

}  // namespace ebbinghaus::text
