// Bearer tokens: who may call, from a file of names and secrets.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/scheduler/mutex.h"

namespace ebbinghaus::rpc {

inline constexpr size_t kMaxTokenNameBytes = 64;
inline constexpr size_t kMinSecretBytes = 16;
inline constexpr size_t kMaxSecretBytes = 1024;

// The tokens of one reading of the file. Keeps digests, not secrets. Immutable, hence thread safe.
class TokenSet {
 public:
  // Reads lines of `NAME SECRET`; empty lines and those that start with # are skipped. Names are unique and made of
  // [A-Za-z0-9._-], 1 to kMaxTokenNameBytes; secrets are unique and kMinSecretBytes to kMaxSecretBytes of printable
  // ASCII.
  // Errors: InvalidArgument with the line's number and the rule it breaks, never with what stands in it (a secret may
  // stand where a name belongs); also when there is no token at all.
  static absl::StatusOr<TokenSet> Parse(std::string_view text);

  // The name that goes with the secret. How long it takes does not depend on which token matches, or how nearly.
  std::optional<std::string> Find(std::string_view secret) const;

  size_t size() const { return tokens_.size(); }

 private:
  using Digest = std::array<uint8_t, 32>;  // SHA-256
  struct Token {
    std::string name;
    Digest secret;
  };

  struct Lines {  // where names and secrets stand
    std::map<std::string, size_t> names;
    std::map<Digest, size_t> secrets;
  };

  static Digest DigestOf(std::string_view secret);
  absl::Status Add(std::string_view line, size_t number, Lines& lines);

  std::vector<Token> tokens_;
};

// The tokens in force, replaced as a whole. Thread safe.
class TokenStore {
 public:
  // Takes the text of a token file. Errors: those of TokenSet::Parse; then the tokens stay as they are.
  absl::Status Set(std::string_view text);

  // As TokenSet::Find; nobody is known before the first Set.
  std::optional<std::string> Find(std::string_view secret) const;

 private:
  mutable scheduler::Mutex mutex_;
  std::shared_ptr<const TokenSet> tokens_ ABSL_GUARDED_BY(mutex_) = std::make_shared<const TokenSet>();
};

}  // namespace ebbinghaus::rpc
