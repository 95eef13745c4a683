#include "server/rpc/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "grpc/grpc.h"
#include "grpc/grpc_security.h"
#include "grpcpp/security/server_credentials.h"
#include "server/scheduler/log.h"

namespace ebbinghaus::rpc {
namespace {

template <auto kFree>
struct Freed {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Bio = std::unique_ptr<BIO, Freed<BIO_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using Context = std::unique_ptr<SSL_CTX, Freed<SSL_CTX_free>>;

// OpenSSL keeps a thread's errors until somebody asks; gRPC must not find ours.
std::string TakeOpensslError() {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  std::string text = reason == nullptr ? "unknown error" : reason;
  ERR_clear_error();
  return text;
}

absl::Status Bad(const std::string& file, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(file, ": ", what));
}

Bio Open(const std::string& pem) { return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()))); }

// All of a file's certificates, at least one.
absl::StatusOr<std::vector<Certificate>> ReadCertificates(const std::string& file, const std::string& pem) {
  std::vector<Certificate> all;
  const Bio bio = Open(pem);
  while (X509* next = PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr)) all.emplace_back(next);
  const bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  const std::string error = TakeOpensslError();
  if (!at_end) return Bad(file, absl::StrCat("certificate ", all.size() + 1, " cannot be read: ", error));
  if (all.empty()) return Bad(file, "holds no certificate in PEM form");
  return all;
}

absl::StatusOr<Key> ReadKey(const std::string& file, const std::string& pem) {
  // OpenSSL's own way to ask for a passphrase would wait at the terminal.
  const auto no_passphrase = [](char*, int, int, void*) { return -1; };
  const Bio bio = Open(pem);
  Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr));
  ERR_clear_error();
  if (key == nullptr) return Bad(file, "holds no private key in PEM form without a passphrase");
  return key;
}

// Whether TLS can be served with them: the same steps that gRPC takes for a connection, which would fail there one by
// one, with nobody but the client to see it.
absl::Status CheckServes(const TlsFiles& files, const std::vector<Certificate>& chain, const Key& key) {
  const Context context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) return absl::InternalError(absl::StrCat("no TLS: ", TakeOpensslError()));
  if (X509_check_private_key(chain[0].get(), key.get()) != 1) {
    ERR_clear_error();
    return Bad(files.key, absl::StrCat("the key does not fit the first certificate of ", files.certificate));
  }
  if (SSL_CTX_use_certificate(context.get(), chain[0].get()) != 1) return Bad(files.certificate, TakeOpensslError());
  if (SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1) return Bad(files.key, TakeOpensslError());
  for (size_t i = 1; i < chain.size(); ++i) {
    if (SSL_CTX_add1_chain_cert(context.get(), chain[i].get()) != 1) return Bad(files.certificate, TakeOpensslError());
  }
  return absl::OkStatus();
}

// No reason to refuse: clients may not look at the dates, and an expired certificate beats none.
void WarnOfDates(const std::string& file, const Certificate& certificate) {
  const int begins = X509_cmp_current_time(X509_get0_notBefore(certificate.get()));
  const int ends = X509_cmp_current_time(X509_get0_notAfter(certificate.get()));
  if (ends < 0) scheduler::LogWarning("certificate_expired", {{"file", file}});
  if (begins > 0) scheduler::LogWarning("certificate_not_yet_valid", {{"file", file}});
}

// gRPC asks this before every handshake.
class Fetcher {
 public:
  explicit Fetcher(std::shared_ptr<const TlsCertificates> certificates) : certificates_(std::move(certificates)) {}

  static grpc_ssl_certificate_config_reload_status Fetch(void* self, grpc_ssl_server_certificate_config** config) {
    return static_cast<Fetcher*>(self)->FetchIfNew(config);
  }

 private:
  grpc_ssl_certificate_config_reload_status FetchIfNew(grpc_ssl_server_certificate_config** config) {
    const TlsCertificates::Current current = certificates_->current();
    scheduler::MutexLock lock(mutex_);
    if (current.version <= served_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const TlsMaterial& material = *current.material;
    const grpc_ssl_pem_key_cert_pair pair{material.key.c_str(), material.certificate.c_str()};
    // Debian's gRPC, built with its assertions, wants authorities even where no client is asked for a certificate; any
    // will do then.
    const std::string& authorities = certificates_->wants_client_certificates() ? material.client_ca : material.certificate;
    *config = grpc_ssl_server_certificate_config_create(authorities.c_str(), &pair, 1);
    served_ = current.version;
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const std::shared_ptr<const TlsCertificates> certificates_;
  scheduler::Mutex mutex_;
  uint64_t served_ ABSL_GUARDED_BY(mutex_) = 0;
};

// grpcpp's own credentials have a certificate for good (SslServerCredentials), or go on without any after a broken
// reload (TlsServerCredentials with a FileWatcherCertificateProvider: it drops the old one before it tries the new).
// gRPC's C interface has what is wanted: a callback per handshake, and what it gives is used only if it works.
class ReloadingCredentials final : public grpc::ServerCredentials {
 public:
  explicit ReloadingCredentials(std::shared_ptr<const TlsCertificates> certificates) : fetcher_(certificates) {
    const auto request = certificates->wants_client_certificates()
                             ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                             : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
    credentials_ = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(request, Fetcher::Fetch, &fetcher_));
  }
  ~ReloadingCredentials() override { grpc_server_credentials_release(credentials_); }

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  Fetcher fetcher_;
  grpc_server_credentials* credentials_ = nullptr;
};

}  // namespace

std::vector<std::string> TlsCertificates::Paths() const {
  std::vector<std::string> paths = {files_.certificate, files_.key};
  if (wants_client_certificates()) paths.push_back(files_.client_ca);
  return paths;
}

absl::Status TlsCertificates::Set(const std::vector<std::string>& contents) {
  auto material = std::make_shared<TlsMaterial>(TlsMaterial{contents.at(0), contents.at(1), ""});
  absl::StatusOr<std::vector<Certificate>> chain = ReadCertificates(files_.certificate, material->certificate);
  if (!chain.ok()) return chain.status();
  absl::StatusOr<Key> key = ReadKey(files_.key, material->key);
  if (!key.ok()) return key.status();
  if (absl::Status status = CheckServes(files_, *chain, *key); !status.ok()) return status;
  if (wants_client_certificates()) {
    material->client_ca = contents.at(2);
    if (auto roots = ReadCertificates(files_.client_ca, material->client_ca); !roots.ok()) return roots.status();
  }
  WarnOfDates(files_.certificate, chain->front());
  scheduler::MutexLock lock(mutex_);
  current_ = {current_.version + 1, std::move(material)};
  return absl::OkStatus();
}

TlsCertificates::Current TlsCertificates::current() const {
  scheduler::MutexLock lock(mutex_);
  return current_;
}

std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(std::shared_ptr<const TlsCertificates> certificates) {
  return std::make_shared<ReloadingCredentials>(std::move(certificates));
}

}  // namespace ebbinghaus::rpc
