#include "tests/unit/client/fake_server.h"

#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"
#include "grpcpp/server_context.h"

namespace ebbinghaus::client {

FakeServer::FakeServer(Script script) : script_(std::move(script)) {
  grpc::EnableDefaultHealthCheckService(true);
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  target_ = absl::StrCat("127.0.0.1:", port);
}

FakeServer::~FakeServer() {
  server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
}

std::vector<v1::GenerateRequest> FakeServer::requests() const {
  std::lock_guard lock(mutex_);
  return requests_;
}

void FakeServer::SetServing(bool serving) {
  server_->GetHealthCheckService()->SetServingStatus(serving);
}

grpc::Status FakeServer::Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                                  Writer* writer) {
  {
    std::lock_guard lock(mutex_);
    requests_.push_back(*request);
  }
  return script_(*context, *request, *writer);
}

grpc::Status FakeServer::Tokenize(grpc::ServerContext*, const v1::TokenizeRequest* request,
                                  v1::TokenizeResponse* response) {
  const std::string text =
      request->has_text() ? request->text() : request->chat().messages(0).content();
  for (char c : text) {
    if ((static_cast<unsigned char>(c) & 0xC0) == 0x80 && response->pieces_size() > 0) {
      *response->mutable_pieces()->rbegin() += c;
      continue;
    }
    response->add_ids(static_cast<unsigned char>(c));
    response->add_pieces(std::string(1, c));
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::GetModel(grpc::ServerContext*, const v1::GetModelRequest*,
                                  v1::GetModelResponse* response) {
  response->set_name(model_name_);
  response->set_context_tokens(2048);
  response->set_vocabulary_size(1000);
  response->add_eos_token_ids(2);
  return grpc::Status::OK;
}

grpc::Status FakeServer::GetServerStatus(grpc::ServerContext*, const v1::GetServerStatusRequest*,
                                         v1::GetServerStatusResponse* response) {
  response->set_state("serving");
  response->set_default_mode(v1::GENERATION_MODE_SOFT_DELETE);
  response->mutable_uptime()->set_seconds(61);
  response->set_kv_capacity_bytes(3u << 20);
  return grpc::Status::OK;
}

std::vector<v1::GenerateResponse> Answer(const v1::GenerateRequest& request,
                                         const std::vector<std::string>& pieces,
                                         uint32_t first_id) {
  std::vector<v1::GenerateResponse> events(1);
  v1::Started& started = *events[0].mutable_started();
  started.set_model("fake");
  started.set_mode(request.generation_mode());
  started.set_seed(request.sampling().seed());
  started.set_prompt_tokens(7);
  for (size_t i = 0; i < pieces.size(); ++i) {
    v1::GenerateResponse event;
    event.mutable_token()->set_id(first_id + static_cast<uint32_t>(i));
    event.mutable_token()->set_text(pieces[i]);
    events.push_back(event);
  }
  v1::GenerateResponse last;
  v1::Finished& finished = *last.mutable_finished();
  finished.set_finish_reason(v1::FINISH_REASON_LENGTH);
  finished.mutable_usage()->set_generated_tokens(static_cast<uint32_t>(pieces.size()));
  finished.mutable_usage()->set_tokens_per_second(50);
  finished.mutable_memory_stats()->set_total_tokens(107);
  finished.mutable_memory_stats()->set_live_tokens(80);
  finished.mutable_memory_stats()->set_forgotten_tokens(27);
  if (request.generation_mode() != v1::GENERATION_MODE_BASELINE) {
    v1::LayerMemory& layer = *finished.mutable_memory_stats()->add_layers();
    layer.set_live_tokens(80);
    layer.set_max_strength(6.5);
    layer.set_mean_retention(0.75);
  }
  events.push_back(last);
  return events;
}

grpc::Status Play(const std::vector<v1::GenerateResponse>& events, FakeServer::Writer& writer) {
  for (const v1::GenerateResponse& event : events) writer.Write(event);
  return grpc::Status::OK;
}

}  // namespace ebbinghaus::client
