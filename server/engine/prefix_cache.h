// Pages of prompts that were read before, for sequences that begin alike. Only pristine K/V is here: computed at weight 1,
// with nothing forgotten (memory-spec 6.4), so that every mode can use what any has left.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/types/span.h"
#include "server/base/ids.h"
#include "server/cache/kv_cache.h"
#include "server/cache/page_pool.h"

namespace ebbinghaus::engine {

// What the rows of a prompt gave the tokens of one layer, every row of it observed (spec 3). Kept apart from the retention
// state until the prompt is read: so the sums do not depend on how it was cut into passes (spec 6.9), nor on parameters.
struct PromptMass {
  std::vector<double> sum;               // [tokens]
  std::vector<int32_t> last_strong_row;  // [tokens], -1 = none

  uint64_t bytes() const { return sum.size() * (sizeof(double) + sizeof(int32_t)); }
};

struct PrefixQuery {
  std::string owner;
  cache::Account account = 0;  // on which the pages will be held
  absl::Span<const base::TokenId> prompt;
  base::Position first_observed_row = 0;  // MemoryPolicy::FirstObservedRow
  float strong = 0;                       // mass from which on a row counts as strong
};

struct Prefix {
  uint32_t tokens = 0;                          // < prompt.size(): the last row is always computed
  std::vector<std::vector<cache::Page>> pages;  // [L][pages of these tokens]; empty when tokens == 0
  std::vector<PromptMass> mass;                 // [L] where the prefix is observed, else empty
  uint32_t known_tokens = 0;                    // how far there are pages, also if the mass is missing
};

// Two kinds of entries: blocks, each a full page per layer and the token ids in it, found by a hash over all ids up to
// there and then compared; and ends of prompts that were observed from their first row, with the mass that belongs to the
// tokens up to there. All hang below their owner's root, as a tree; the least recently used goes first, children before
// their parents. One thread.
class PrefixCache {
 public:
  using BlockHash = std::function<uint64_t(uint64_t parent, absl::Span<const base::TokenId> ids)>;

  // Reclaims for `pool`, which outlives this. Masses are not in the pool; they take at most a sixteenth of its capacity
  // beside it.
  PrefixCache(cache::PagePool* pool, uint32_t layers, BlockHash hash = DefaultHash);
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;
  ~PrefixCache();

  // The longest prefix that gives the same state as reading it would: blocks up to the first observed row, or an end's
  // whole prompt where all rows are observed.
  Prefix Find(const PrefixQuery& query);

  // Keeps the full pages of these tokens. Requires: the slots of `cache` up to there are pristine, and in the tokens' order.
  void Insert(const std::string& owner, absl::Span<const base::TokenId> tokens, const cache::KvCache& cache);
  // The same, and the end of a prompt with its mass, [L] of as many tokens; what is in its last page too.
  void InsertEnd(const std::string& owner, absl::Span<const base::TokenId> tokens, const cache::KvCache& cache, float strong,
                 std::vector<PromptMass> mass);

  // False when there is none.
  bool DropLeastRecentlyUsed();

  size_t entries() const { return by_use_.size(); }
  uint64_t mass_bytes() const { return mass_bytes_; }

  static uint64_t DefaultHash(uint64_t parent, absl::Span<const base::TokenId> ids);

 private:
  struct End {
    float strong = 0;
    std::vector<PromptMass> mass;
    uint64_t bytes = 0;
  };
  struct Entry {
    Entry* parent = nullptr;  // null: a root, which is not in by_use_
    uint64_t hash = 0;
    std::vector<base::TokenId> ids;  // of a block a page full, of an end fewer
    std::vector<cache::Page> pages;  // [L]; of an end on a page's boundary none
    std::unique_ptr<End> end;        // null: a block
    uint32_t blocks = 0;             // below this one
    std::vector<Entry*> ends;
    std::list<Entry>::iterator place;  // in by_use_
  };

  std::vector<Entry*> KnownBlocks(Entry& root, absl::Span<const base::TokenId> tokens) const;
  Entry* FindBlock(const Entry& parent, uint64_t hash, absl::Span<const base::TokenId> ids) const;
  static Entry* LongestEnd(const Entry& parent, absl::Span<const base::TokenId> rest, float strong);
  Prefix Share(absl::Span<Entry* const> blocks, const Entry* end, cache::Account account) const;
  Entry* InsertBlocks(Entry& root, absl::Span<const base::TokenId> tokens, const cache::KvCache& cache);
  Entry* Add(Entry& parent, absl::Span<const base::TokenId> ids, const cache::KvCache& cache, size_t page);
  Entry& Root(const std::string& owner);
  void DropIfUnused(const Entry& root);
  void Touch(Entry& entry);
  void Drop(Entry& entry);
  void DropMassBeyondLimit();

  cache::PagePool* const pool_;
  const uint32_t layers_;
  const size_t page_tokens_;
  const BlockHash hash_;
  const uint64_t most_mass_bytes_;

  std::map<std::string, Entry> roots_;                    // by owner
  std::list<Entry> by_use_;                               // the last used first, parents before their children
  std::unordered_multimap<uint64_t, Entry*> blocks_;      // by hash
  uint64_t mass_bytes_ = 0;
};

}  // namespace ebbinghaus::engine
