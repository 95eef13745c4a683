// SentencePiece's unigram model: of all ways to cut a text into tokens the one whose scores sum up
// highest.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "server/base/ids.h"
#include "server/text/bpe.h"
#include "server/text/encode_stop.h"
#include "server/text/token_texts.h"

namespace ebbinghaus::text {

struct UnigramOptions {
  std::vector<double> scores;  // by id
  double unknown_score = 0;    // of a character that no token covers
  base::TokenId unknown = kNoToken;  // without one, unknown text vanishes
  bool fuse_unknown = true;    // neighbouring unknown characters are one
  bool byte_fallback = false;  // they become the tokens <0x00> to <0xFF> of their bytes
};

// Working memory of Unigram::Encode. Not thread safe.
struct UnigramScratch {
  struct Node {
    double score = 0;
    uint32_t begin = UINT32_MAX;  // of the last token of the best way that ends here
    base::TokenId id = kNoToken;
  };
  std::vector<Node> nodes;
};

// Immutable; thread safe. Source: Kudo 2018, "Subword regularization"; the order of equal scores is
// that of the `tokenizers` library.
class Unigram {
 public:
  Unigram() = default;
  // `texts`: as for Bpe; of two equal ones the later is found. Requires: as many scores as texts.
  Unigram(absl::Span<const std::optional<std::string>> texts, UnigramOptions options);

  // Appends the tokens of a piece; none of them once `stop` has cancelled. O(n * longest token).
  // Requires: piece.size() < 2^32 - 1; valid UTF-8.
  void Encode(std::string_view piece, EncodeStop& stop, UnigramScratch& scratch,
              std::vector<base::TokenId>& out) const;

 private:
  bool FindBest(std::string_view piece, EncodeStop& stop, UnigramScratch& scratch) const;
  void AppendUnknown(std::string_view text, std::vector<base::TokenId>& out) const;
  base::TokenId Find(std::string_view text) const;

  UnigramOptions options_;
  TokenTexts texts_;                    // in alphabetical order
  std::vector<base::TokenId> ids_;      // of texts_
  std::array<uint32_t, 257> first_{};   // where the texts begin that begin with a byte
  std::array<base::TokenId, 256> fallback_bytes_{};
};

}  // namespace ebbinghaus::text
