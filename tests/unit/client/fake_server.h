// An inference server in this process that plays a script, so that the client is tested over real
// gRPC.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "ebbinghaus/v1/inference.grpc.pb.h"
#include "grpcpp/server.h"

namespace ebbinghaus::client {

class FakeServer final : public v1::InferenceService::Service {
 public:
  using Writer = grpc::ServerWriter<v1::GenerateResponse>;
  using Script =
      std::function<grpc::Status(grpc::ServerContext&, const v1::GenerateRequest&, Writer&)>;

  // Listens on a free port of this machine.
  explicit FakeServer(Script script);
  ~FakeServer() override;

  const std::string& target() const { return target_; }
  std::vector<v1::GenerateRequest> requests() const;  // of Generate, in their order
  void SetServing(bool serving);
  void SetModelName(const std::string& name) { model_name_ = name; }  // before the first call

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        Writer* writer) override;
  grpc::Status Tokenize(grpc::ServerContext* context, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override;
  grpc::Status GetModel(grpc::ServerContext* context, const v1::GetModelRequest* request,
                        v1::GetModelResponse* response) override;
  grpc::Status GetServerStatus(grpc::ServerContext* context,
                               const v1::GetServerStatusRequest* request,
                               v1::GetServerStatusResponse* response) override;

 private:
  Script script_;
  std::string model_name_ = "fake";
  std::string target_;
  mutable std::mutex mutex_;
  std::vector<v1::GenerateRequest> requests_;
  std::unique_ptr<grpc::Server> server_;
};

// The events of a whole answer: `started`, a token per piece of text (its id is `first_id` and up),
// `finished`.
std::vector<v1::GenerateResponse> Answer(const v1::GenerateRequest& request,
                                         const std::vector<std::string>& pieces,
                                         uint32_t first_id = 1);

// Plays `events` and ends OK.
grpc::Status Play(const std::vector<v1::GenerateResponse>& events, FakeServer::Writer& writer);

}  // namespace ebbinghaus::client
