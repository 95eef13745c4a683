#include "server/rpc/tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <functional>

#include "ebbinghaus/v1/inference.grpc.pb.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/auth_context.h"
#include "grpcpp/security/credentials.h"
#include "server/rpc/authenticator.h"
#include "server/rpc/grpc_server.h"
#include "server/scheduler/log.h"

namespace ebbinghaus::rpc {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string Pem(const std::function<int(BIO*)>& write) {
  BIO* memory = BIO_new(BIO_s_mem());
  EXPECT_EQ(write(memory), 1);
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory, &data);
  std::string text(data, static_cast<size_t>(size));
  BIO_free(memory);
  return text;
}

// A certificate that signs itself, so that it is its own authority, and its key.
struct Identity {
  std::string certificate, key;
};

Identity MakeIdentity(const std::string& common_name, const std::string& alternative = "", EVP_PKEY* key = nullptr,
                      int days = 1) {
  if (key == nullptr) key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  X509_set_version(certificate, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), -2 * 86400);
  X509_gmtime_adj(X509_getm_notAfter(certificate), days * 86400);
  X509_set_pubkey(certificate, key);
  X509_NAME* name = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(common_name.c_str()), -1,
                             -1, 0);
  X509_set_issuer_name(certificate, name);
  if (!alternative.empty()) {
    X509_EXTENSION* names = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, alternative.c_str());
    X509_add_ext(certificate, names, -1);
    X509_EXTENSION_free(names);
  }
  EXPECT_GT(X509_sign(certificate, key, EVP_sha256()), 0);
  Identity made;
  made.certificate = Pem([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate); });
  made.key = Pem([&](BIO* bio) { return PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr); });
  X509_free(certificate);
  EVP_PKEY_free(key);
  return made;
}

const TlsFiles kFiles{"cert.pem", "key.pem", ""};
const TlsFiles kMutualFiles{"cert.pem", "key.pem", "ca.pem"};

std::string ErrorOf(TlsFiles files, const std::vector<std::string>& contents) {
  return std::string(TlsCertificates(std::move(files)).Set(contents).message());
}

// Says who called.
class Service final : public v1::InferenceService::CallbackService {
 public:
  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context, const v1::GetModelRequest*,
                                     v1::GetModelResponse* response) override {
    response->set_name("hello " + *Authenticator().Identify(*context));
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
};

class TlsTest : public testing::Test {
 protected:
  void Start(const TlsFiles& files, const std::vector<std::string>& contents) {
    tls_ = std::make_shared<TlsCertificates>(files);
    ASSERT_TRUE(tls_->Set(contents).ok());
    GrpcServerOptions options;
    options.tls = tls_;
    auto server = GrpcServer::Start(options, &service_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  // A new connection each time. What GetModel answers; "" if it fails.
  std::string Ask(const std::string& authority, const Identity& client = {}) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetString(GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, "server");
    auto channel = grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(server_->port()),
                                             grpc::SslCredentials({authority, client.key, client.certificate}), arguments);
    grpc::ClientContext context;
    v1::GetModelResponse response;
    const grpc::Status status = v1::InferenceService::NewStub(channel)->GetModel(&context, {}, &response);
    EXPECT_TRUE(status.ok() || status.error_code() == grpc::StatusCode::UNAVAILABLE);
    return response.name();
  }

  const Identity first_ = MakeIdentity("server"), second_ = MakeIdentity("server");
  Service service_;
  std::shared_ptr<TlsCertificates> tls_;
  std::unique_ptr<GrpcServer> server_;
};

TEST_F(TlsTest, OnlyThoseWhoTrustTheCertificateAreServed) {
  Start(kFiles, {first_.certificate, first_.key});
  EXPECT_EQ(Ask(first_.certificate), "hello ");
  EXPECT_EQ(Ask(second_.certificate), "");
}

TEST_F(TlsTest, NewConnectionsGetTheNewCertificate) {
  Start(kFiles, {first_.certificate, first_.key});
  EXPECT_EQ(Ask(first_.certificate), "hello ");
  ASSERT_TRUE(tls_->Set({second_.certificate, second_.key}).ok());
  EXPECT_EQ(Ask(second_.certificate), "hello ");
  EXPECT_EQ(Ask(first_.certificate), "");
}

TEST_F(TlsTest, ABrokenReplacementLeavesTheOldCertificate) {
  Start(kFiles, {first_.certificate, first_.key});
  EXPECT_FALSE(tls_->Set({second_.certificate, first_.key}).ok());
  EXPECT_FALSE(tls_->Set({"", ""}).ok());
  EXPECT_EQ(Ask(first_.certificate), "hello ");
}

TEST_F(TlsTest, WithAnAuthorityForClientsOnlyTheirsAreLetInAndKnownByName) {
  const Identity anna = MakeIdentity("anna"), ben = MakeIdentity("ben", "DNS:ben.example,DNS:other.example"),
                 stranger = MakeIdentity("stranger");
  Start(kMutualFiles, {first_.certificate, first_.key, "# theirs\n" + anna.certificate + ben.certificate});
  EXPECT_EQ(Ask(first_.certificate, anna), "hello anna");
  EXPECT_EQ(Ask(first_.certificate, ben), "hello ben.example");
  EXPECT_EQ(Ask(first_.certificate, stranger), "");
  EXPECT_EQ(Ask(first_.certificate), "");
  ASSERT_TRUE(tls_->Set({first_.certificate, first_.key, stranger.certificate}).ok());
  EXPECT_EQ(Ask(first_.certificate, stranger), "hello stranger");
  EXPECT_EQ(Ask(first_.certificate, anna), "");
}

TEST_F(TlsTest, EveryFaultNamesItsFile) {
  const std::string cut = first_.certificate.substr(0, first_.certificate.size() / 2);
  EXPECT_THAT(ErrorOf(kFiles, {"", first_.key}), HasSubstr("cert.pem: holds no certificate"));
  EXPECT_THAT(ErrorOf(kFiles, {"text", first_.key}), HasSubstr("cert.pem: holds no certificate"));
  EXPECT_THAT(ErrorOf(kFiles, {first_.key, first_.key}), HasSubstr("cert.pem: holds no certificate"));
  EXPECT_THAT(ErrorOf(kFiles, {cut, first_.key}), HasSubstr("cert.pem: certificate 1 cannot be read"));
  EXPECT_THAT(ErrorOf(kFiles, {first_.certificate + cut, first_.key}), HasSubstr("cert.pem: certificate 2"));
  EXPECT_THAT(ErrorOf(kFiles, {first_.certificate, ""}), HasSubstr("key.pem: holds no private key"));
  EXPECT_THAT(ErrorOf(kFiles, {first_.certificate, first_.certificate}), HasSubstr("key.pem: holds no private key"));
  EXPECT_THAT(ErrorOf(kFiles, {first_.certificate, second_.key}),
              AllOf(HasSubstr("key.pem: the key does not fit"), HasSubstr("cert.pem")));
  EXPECT_THAT(ErrorOf(kMutualFiles, {first_.certificate, first_.key, ""}), HasSubstr("ca.pem: holds no certificate"));
  EXPECT_THAT(ErrorOf(kMutualFiles, {first_.certificate, first_.key, first_.certificate + cut}), HasSubstr("ca.pem"));
}

TEST_F(TlsTest, AKeyTooWeakForTlsIsRefusedBeforeItIsServed) {
  const Identity weak = MakeIdentity("server", "", EVP_RSA_gen(512));
  EXPECT_THAT(ErrorOf(kFiles, {weak.certificate, weak.key}), HasSubstr("cert.pem: "));
}

TEST_F(TlsTest, AKeyWithAPassphraseIsRefusedWithoutAsking) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  const std::string locked = Pem([&](BIO* bio) {
    return PEM_write_bio_PrivateKey(bio, key, EVP_aes_128_cbc(), reinterpret_cast<const unsigned char*>("word"), 4,
                                    nullptr, nullptr);
  });
  const Identity identity = MakeIdentity("server", "", key);
  EXPECT_THAT(ErrorOf(kFiles, {identity.certificate, locked}), HasSubstr("without a passphrase"));
}

TEST_F(TlsTest, AnExpiredCertificateIsServedWithAWarning) {
  std::vector<std::string> log;
  scheduler::LogOptions options;
  options.sink = [&log](std::string_view line) { log.emplace_back(line); };
  scheduler::ConfigureLog(options);
  const Identity old = MakeIdentity("server", "", nullptr, -1);
  EXPECT_EQ(ErrorOf(kFiles, {old.certificate, old.key}), "");
  EXPECT_EQ(ErrorOf(kFiles, {first_.certificate, first_.key}), "");
  scheduler::ConfigureLog({});
  EXPECT_THAT(log, testing::ElementsAre(AllOf(HasSubstr("certificate_expired"), HasSubstr("cert.pem"))));
}

}  // namespace
}  // namespace ebbinghaus::rpc
