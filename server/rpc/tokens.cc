#include "server/rpc/tokens.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace ebbinghaus::rpc {
namespace {

bool IsName(absl::string_view text) {
  const auto allowed = [](char c) { return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-'; };
  return !text.empty() && text.size() <= kMaxTokenNameBytes && std::all_of(text.begin(), text.end(), allowed);
}

bool IsSecret(absl::string_view text) {
  return text.size() >= kMinSecretBytes && text.size() <= kMaxSecretBytes &&
         std::all_of(text.begin(), text.end(), absl::ascii_isgraph);
}

}  // namespace

absl::StatusOr<TokenSet> TokenSet::Parse(std::string_view text) {
  TokenSet set;
  Lines lines;
  size_t number = 0;
  for (absl::string_view line : absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    if (absl::Status status = set.Add({line.data(), line.size()}, number, lines); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", status.message()));
    }
  }
  if (set.tokens_.empty()) return absl::InvalidArgumentError("holds no token; a token is a line `NAME SECRET`");
  return set;
}

absl::Status TokenSet::Add(std::string_view line, size_t number, Lines& lines) {
  const std::vector<absl::string_view> words =
      absl::StrSplit(absl::string_view(line.data(), line.size()), absl::ByAnyChar(" \t"), absl::SkipEmpty());
  if (words.size() != 2) return absl::InvalidArgumentError("expected `NAME SECRET`: two words");
  if (!IsName(words[0])) {
    return absl::InvalidArgumentError(
        absl::StrCat("the name must be 1 to ", kMaxTokenNameBytes, " characters of A-Z a-z 0-9 . _ -"));
  }
  if (!IsSecret(words[1])) {
    return absl::InvalidArgumentError(absl::StrCat("the secret must be ", kMinSecretBytes, " to ", kMaxSecretBytes,
                                                   " characters of printable ASCII"));
  }
  Token token{std::string(words[0]), DigestOf({words[1].data(), words[1].size()})};
  if (const auto [same, fresh] = lines.names.emplace(token.name, number); !fresh) {
    return absl::InvalidArgumentError(absl::StrCat("the same name as line ", same->second));
  }
  // One secret with two names would leave it open who calls.
  if (const auto [same, fresh] = lines.secrets.emplace(token.secret, number); !fresh) {
    return absl::InvalidArgumentError(absl::StrCat("the same secret as line ", same->second));
  }
  tokens_.push_back(std::move(token));
  return absl::OkStatus();
}

// Digests are of one length, whatever the secrets are, and nothing about them tells how near a guess came.
TokenSet::Digest TokenSet::DigestOf(std::string_view secret) {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(secret.data()), secret.size(), digest.data());
  return digest;
}

std::optional<std::string> TokenSet::Find(std::string_view secret) const {
  const Digest digest = DigestOf(secret);
  size_t found = tokens_.size();
  for (size_t i = 0; i < tokens_.size(); ++i) {  // to the end, wherever the match is
    const size_t match = CRYPTO_memcmp(digest.data(), tokens_[i].secret.data(), digest.size()) == 0;
    found ^= (found ^ i) & (size_t{0} - match);
  }
  if (found == tokens_.size()) return std::nullopt;
  return tokens_[found].name;
}

absl::Status TokenStore::Set(std::string_view text) {
  absl::StatusOr<TokenSet> read = TokenSet::Parse(text);
  if (!read.ok()) return read.status();
  auto tokens = std::make_shared<const TokenSet>(*std::move(read));
  scheduler::MutexLock lock(mutex_);
  tokens_.swap(tokens);
  return absl::OkStatus();
}

std::optional<std::string> TokenStore::Find(std::string_view secret) const {
  std::shared_ptr<const TokenSet> tokens;
  {
    scheduler::MutexLock lock(mutex_);
    tokens = tokens_;
  }
  return tokens->Find(secret);
}

}  // namespace ebbinghaus::rpc
