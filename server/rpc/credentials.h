// What guards the gRPC listener: its certificate and the tokens, kept up to date with their files.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/rpc/tls.h"
#include "server/rpc/tokens.h"
#include "server/rpc/watched_files.h"

namespace ebbinghaus::rpc {

struct CredentialFiles {
  TlsFiles tls;        // an empty certificate: no TLS
  std::string tokens;  // empty: none are asked for
};

// Thread safe.
class Credentials {
 public:
  // Reads the files, and from now on again when they change. Errors: a message that names the file and what is wrong.
  static absl::StatusOr<std::unique_ptr<Credentials>> Load(const CredentialFiles& files);

  std::shared_ptr<const TlsCertificates> tls() const { return tls_; }  // null: no TLS
  const TokenStore* tokens() const { return tokens_.get(); }           // null: none are asked for

 private:
  Credentials() = default;

  std::shared_ptr<TlsCertificates> tls_;
  std::unique_ptr<TokenStore> tokens_;
  std::unique_ptr<FilePoller> poller_;  // last: uses the others
};

}  // namespace ebbinghaus::rpc
