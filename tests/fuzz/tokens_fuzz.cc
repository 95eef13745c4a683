// The file of bearer tokens, and after a zero byte a secret that somebody tries.
#include <string>

#include "absl/strings/str_split.h"
#include "server/base/check.h"
#include "server/rpc/tokens.h"
#include "tests/fuzz/support.h"

namespace ebbinghaus::rpc {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto [file, secret] = fuzz::SplitAtZero(fuzz::AsText(data, size));
  const absl::StatusOr<TokenSet> tokens = TokenSet::Parse(file);
  if (!tokens.ok()) {
    EBB_CHECK(tokens.status().message().size() < 512);
    return 0;
  }
  EBB_CHECK(tokens->size() > 0);
  size_t found = 0;
  for (absl::string_view word : absl::StrSplit(absl::string_view(file.data(), file.size()), absl::ByAnyChar(" \t\n\v\f\r"))) {
    found += tokens->Find({word.data(), word.size()}).has_value();
  }
  EBB_CHECK(found >= tokens->size());
  if (tokens->Find(secret)) EBB_CHECK(secret.size() >= kMinSecretBytes && file.find(secret) != file.npos);
  return 0;
}

}  // namespace ebbinghaus::rpc
