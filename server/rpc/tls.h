// The listener's certificate, which may be replaced while it serves.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "server/scheduler/mutex.h"

namespace grpc {
class ServerCredentials;
}

namespace ebbinghaus::rpc {

// PEM files. Without client_ca clients are not asked for a certificate; with it they must have one.
struct TlsFiles {
  std::string certificate;  // the server's, followed by what leads to its root
  std::string key;
  std::string client_ca;
};

// What TlsFiles hold.
struct TlsMaterial {
  std::string certificate, key, client_ca;
};

// The certificate in force. Thread safe.
class TlsCertificates {
 public:
  explicit TlsCertificates(TlsFiles files) : files_(std::move(files)) {}

  std::vector<std::string> Paths() const;
  bool wants_client_certificates() const { return !files_.client_ca.empty(); }

  // Takes the contents of Paths() if new connections could be served with them; logs a warning if the certificate has
  // expired or is not valid yet.
  // Errors: InvalidArgument with the file at fault; then the certificate in force stays.
  absl::Status Set(const std::vector<std::string>& contents);

  struct Current {
    uint64_t version = 0;  // grows with every Set; 0 before the first
    std::shared_ptr<const TlsMaterial> material;
  };
  Current current() const;

 private:
  const TlsFiles files_;
  mutable scheduler::Mutex mutex_;
  Current current_ ABSL_GUARDED_BY(mutex_);
};

// Credentials that serve each new connection with the certificate in force; connections that are open go on. One
// listening port may use them, and they must outlive its server.
std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(std::shared_ptr<const TlsCertificates> certificates);

}  // namespace ebbinghaus::rpc
