#include "server/rpc/credentials.h"

#include <chrono>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace ebbinghaus::rpc {
namespace {

// A change is in force after two to three of them.
constexpr std::chrono::seconds kPollInterval{1};

absl::Status Named(const std::string& file, const absl::Status& status) {
  return status.ok() ? status : absl::Status(status.code(), absl::StrCat(file, ": ", status.message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Credentials>> Credentials::Load(const CredentialFiles& files) {
  std::unique_ptr<Credentials> loaded(new Credentials());
  std::vector<std::unique_ptr<WatchedFiles>> watched;
  if (!files.tls.certificate.empty()) {
    loaded->tls_ = std::make_shared<TlsCertificates>(files.tls);
    watched.push_back(std::make_unique<WatchedFiles>(
        "certificate", loaded->tls_->Paths(),
        [tls = loaded->tls_.get()](const std::vector<std::string>& contents) { return tls->Set(contents); }));
  }
  if (!files.tokens.empty()) {
    loaded->tokens_ = std::make_unique<TokenStore>();
    auto use = [tokens = loaded->tokens_.get(), file = files.tokens](const std::vector<std::string>& contents) {
      return Named(file, tokens->Set(contents.at(0)));
    };
    watched.push_back(std::make_unique<WatchedFiles>("tokens", std::vector<std::string>{files.tokens}, std::move(use)));
  }
  for (const auto& one : watched) EBB_RETURN_IF_ERROR(one->Load());
  if (!watched.empty()) loaded->poller_ = std::make_unique<FilePoller>(std::move(watched), kPollInterval);
  return loaded;
}

}  // namespace ebbinghaus::rpc
