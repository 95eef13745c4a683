#include "server/engine/prefix_cache.h"

#include <algorithm>
#include <utility>

#include "absl/hash/hash.h"
#include "server/base/check.h"

namespace ebbinghaus::engine {

using base::TokenId;

namespace {

bool StartsWith(absl::Span<const TokenId> tokens, const std::vector<TokenId>& ids) {
  return tokens.size() >= ids.size() && std::equal(ids.begin(), ids.end(), tokens.begin());
}

}  // namespace

uint64_t PrefixCache::DefaultHash(uint64_t parent, absl::Span<const TokenId> ids) { return absl::HashOf(parent, ids); }

PrefixCache::PrefixCache(cache::PagePool* pool, uint32_t layers, BlockHash hash)
    : pool_(pool),
      layers_(layers),
      page_tokens_(pool->shape().page_tokens),
      hash_(std::move(hash)),
      most_mass_bytes_(pool->capacity_bytes() / 16) {
  pool_->set_reclaim([this] { return DropLeastRecentlyUsed(); });
}

PrefixCache::~PrefixCache() { pool_->set_reclaim(nullptr); }

Prefix PrefixCache::Find(const PrefixQuery& query) {
  const auto root = roots_.find(query.owner);
  if (root == roots_.end() || query.prompt.empty()) return {};
  const absl::Span<const TokenId> reusable = query.prompt.first(query.prompt.size() - 1);
  const std::vector<Entry*> known = KnownBlocks(root->second, reusable);
  const size_t unobserved = std::min<size_t>(known.size(), query.first_observed_row / page_tokens_);
  absl::Span<Entry* const> blocks = absl::MakeConstSpan(known).first(unobserved);
  Entry* end = nullptr;
  if (query.first_observed_row == 0) {
    for (size_t depth = known.size() + 1; depth-- > 0 && end == nullptr;) {
      const Entry& parent = depth == 0 ? root->second : *known[depth - 1];
      end = LongestEnd(parent, reusable.subspan(depth * page_tokens_), query.strong);
      if (end != nullptr) blocks = absl::MakeConstSpan(known).first(depth);
    }
  }
  Prefix prefix = Share(blocks, end, query.account);
  prefix.known_tokens = static_cast<uint32_t>(known.size() * page_tokens_);
  if (end != nullptr) {
    Touch(*end);
  } else if (!blocks.empty()) {
    Touch(*blocks.back());
  }
  return prefix;
}

// The longest run of blocks that are there and in which `tokens` begins.
std::vector<PrefixCache::Entry*> PrefixCache::KnownBlocks(Entry& root, absl::Span<const TokenId> tokens) const {
  std::vector<Entry*> run;
  const Entry* at = &root;
  for (; tokens.size() >= page_tokens_; tokens.remove_prefix(page_tokens_)) {
    const absl::Span<const TokenId> ids = tokens.first(page_tokens_);
    Entry* next = FindBlock(*at, hash_(at->hash, ids), ids);
    if (next == nullptr) break;
    run.push_back(next);
    at = next;
  }
  return run;
}

// The parent was compared in its turn, so equal ids here mean equal ids from the start, and one owner.
PrefixCache::Entry* PrefixCache::FindBlock(const Entry& parent, uint64_t hash, absl::Span<const TokenId> ids) const {
  const auto [first, last] = blocks_.equal_range(hash);
  for (auto candidate = first; candidate != last; ++candidate) {
    Entry* entry = candidate->second;
    if (entry->parent == &parent && absl::MakeConstSpan(entry->ids) == ids) return entry;
  }
  return nullptr;
}

PrefixCache::Entry* PrefixCache::LongestEnd(const Entry& parent, absl::Span<const TokenId> rest, float strong) {
  Entry* longest = nullptr;
  for (Entry* entry : parent.ends) {
    if (entry->end->strong != strong || !StartsWith(rest, entry->ids)) continue;
    if (longest == nullptr || entry->ids.size() > longest->ids.size()) longest = entry;
  }
  return longest;
}

Prefix PrefixCache::Share(absl::Span<Entry* const> blocks, const Entry* end, cache::Account account) const {
  Prefix prefix;
  if (blocks.empty() && end == nullptr) return prefix;
  prefix.tokens = static_cast<uint32_t>(blocks.size() * page_tokens_ + (end == nullptr ? 0 : end->ids.size()));
  prefix.pages.resize(layers_);
  for (uint32_t l = 0; l < layers_; ++l) {
    prefix.pages[l].reserve(blocks.size() + 1);
    for (const Entry* block : blocks) prefix.pages[l].push_back(block->pages[l].Share(account));
    if (end != nullptr && !end->pages.empty()) prefix.pages[l].push_back(end->pages[l].Share(account));
  }
  if (end != nullptr) prefix.mass = end->end->mass;
  return prefix;
}

void PrefixCache::Insert(const std::string& owner, absl::Span<const TokenId> tokens, const cache::KvCache& cache) {
  Entry& root = Root(owner);
  Touch(*InsertBlocks(root, tokens, cache));
  DropIfUnused(root);
}

void PrefixCache::InsertEnd(const std::string& owner, absl::Span<const TokenId> tokens, const cache::KvCache& cache,
                            float strong, std::vector<PromptMass> mass) {
  EBB_CHECK(mass.size() == layers_);
  auto end = std::make_unique<End>();
  end->strong = strong;
  for (const PromptMass& layer : mass) {
    EBB_CHECK(layer.sum.size() == tokens.size() && layer.last_strong_row.size() == tokens.size());
    end->bytes += layer.bytes();
  }
  end->mass = std::move(mass);
  if (tokens.empty() || end->bytes > most_mass_bytes_) return Insert(owner, tokens, cache);

  Entry* parent = InsertBlocks(Root(owner), tokens, cache);
  const absl::Span<const TokenId> tail = tokens.subspan(tokens.size() / page_tokens_ * page_tokens_);
  for (Entry* known : parent->ends) {
    if (known->end->strong == strong && absl::MakeConstSpan(known->ids) == tail) return Touch(*known);
  }
  Entry* entry = Add(*parent, tail, cache, tokens.size() / page_tokens_);
  mass_bytes_ += end->bytes;
  entry->end = std::move(end);
  parent->ends.push_back(entry);
  Touch(*entry);
  DropMassBeyondLimit();
}

// Returns the last block, or the root.
PrefixCache::Entry* PrefixCache::InsertBlocks(Entry& root, absl::Span<const TokenId> tokens, const cache::KvCache& cache) {
  Entry* at = &root;
  for (size_t page = 0; (page + 1) * page_tokens_ <= tokens.size(); ++page) {
    const absl::Span<const TokenId> ids = tokens.subspan(page * page_tokens_, page_tokens_);
    const uint64_t hash = hash_(at->hash, ids);
    Entry* next = FindBlock(*at, hash, ids);
    if (next == nullptr) {
      next = Add(*at, ids, cache, page);
      next->hash = hash;
      blocks_.emplace(hash, next);
      ++at->blocks;
    }
    at = next;
  }
  return at;
}

// An entry that is neither block nor end yet, with the pages of that index unless there are no ids.
PrefixCache::Entry* PrefixCache::Add(Entry& parent, absl::Span<const TokenId> ids, const cache::KvCache& cache, size_t page) {
  by_use_.emplace_front();
  Entry& entry = by_use_.front();
  entry.place = by_use_.begin();
  entry.parent = &parent;
  entry.ids.assign(ids.begin(), ids.end());
  if (ids.empty()) return &entry;
  entry.pages.reserve(layers_);
  for (uint32_t l = 0; l < layers_; ++l) entry.pages.push_back(cache.layer(l).page(page).Share(cache::kCacheAccount));
  return &entry;
}

PrefixCache::Entry& PrefixCache::Root(const std::string& owner) {
  Entry& root = roots_[owner];
  root.hash = absl::HashOf(owner);
  return root;
}

void PrefixCache::DropIfUnused(const Entry& root) {
  if (root.blocks > 0 || !root.ends.empty()) return;
  for (auto owner = roots_.begin(); owner != roots_.end(); ++owner) {
    if (&owner->second != &root) continue;
    roots_.erase(owner);
    return;
  }
}

// From the entry up, so that parents come before their children.
void PrefixCache::Touch(Entry& entry) {
  for (Entry* at = &entry; at->parent != nullptr; at = at->parent) by_use_.splice(by_use_.begin(), by_use_, at->place);
}

bool PrefixCache::DropLeastRecentlyUsed() {
  if (by_use_.empty()) return false;
  Drop(by_use_.back());
  return true;
}

void PrefixCache::Drop(Entry& entry) {
  EBB_CHECK(entry.blocks == 0 && entry.ends.empty());
  Entry& parent = *entry.parent;
  if (entry.end) {
    mass_bytes_ -= entry.end->bytes;
    parent.ends.erase(std::find(parent.ends.begin(), parent.ends.end(), &entry));
  } else {
    const auto [first, last] = blocks_.equal_range(entry.hash);
    blocks_.erase(std::find_if(first, last, [&](const auto& candidate) { return candidate.second == &entry; }));
    --parent.blocks;
  }
  by_use_.erase(entry.place);
  if (parent.parent == nullptr) DropIfUnused(parent);
}

// An end that is newer than these fits by itself, so that it stays.
void PrefixCache::DropMassBeyondLimit() {
  for (auto entry = by_use_.end(); mass_bytes_ > most_mass_bytes_ && entry != by_use_.begin();) {
    --entry;
    if (!entry->end) continue;
    Entry& oldest = *entry++;
    Drop(oldest);
  }
}

}  // namespace ebbinghaus::engine
