// A gRPC service whose methods see a call before any of its message is read.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "grpcpp/impl/codegen/server_callback_handlers.h"
#include "grpcpp/impl/codegen/service_type.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"

namespace ebbinghaus::rpc {

// gRPC offers this only to generated code and for unary messages that it has parsed; so it is registered as that code does it,
// every method as one that streams bytes both ways. On the wire nothing differs.
class RawService : public grpc::Service {
 protected:
  using Reactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;

  // `path`: "/package.Service/Method". `begin` is called on gRPC's threads.
  void AddRawMethod(const std::string& path, std::function<Reactor*(grpc::CallbackServerContext*)> begin) {
    using grpc::internal::RpcMethod;
    paths_.push_back(std::make_unique<const std::string>(path));
    AddMethod(new grpc::internal::RpcServiceMethod(paths_.back()->c_str(), RpcMethod::BIDI_STREAMING, nullptr));
    MarkMethodRawCallback(
        static_cast<int>(paths_.size()) - 1,
        new grpc::internal::CallbackBidiHandler<grpc::ByteBuffer, grpc::ByteBuffer>(std::move(begin)));
  }

 private:
  std::vector<std::unique_ptr<const std::string>> paths_;  // gRPC keeps pointers into them
};

}  // namespace ebbinghaus::rpc
