// One call of the service, from its headers to its end.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "google/protobuf/message_lite.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "server/base/violations.h"
#include "server/rpc/request_gate.h"
#include "server/rpc/work_pool.h"
#include "server/scheduler/mutex.h"

namespace ebbinghaus::rpc {

// Sends a call's answer when that takes more than one message or some time. The calls come from gRPC's threads.
class Answer {
 public:
  virtual ~Answer() = default;
  virtual void OnWriteDone(bool ok) = 0;
  virtual void OnCancel() = 0;  // must lead to End
  virtual void OnDone() = 0;    // the last; the call is gone after it
};

// Every method is served as one that streams both ways, because of those gRPC calls the service before it reads anything: the
// token is looked at before the message is let in, and how many bytes of messages are let in at once is the gate's decision.
// On the wire nothing differs. Lives until gRPC is done with the call and nobody holds it any more. Thread safe.
class IncomingCall final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                           public RequestGate::Reader,
                           public std::enable_shared_from_this<IncomingCall> {
 public:
  using Reactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;

  struct Plan {
    std::string client;  // those with the same share what the gate and the pool give
    size_t max_request_bytes = 0;
    RequestGate* gate = nullptr;
    WorkPool* pool = nullptr;  // null: `serve` runs on gRPC's thread and must be quick
    // Gets the message; must lead to Reply, Refuse, or Attach and End.
    std::function<void(const std::shared_ptr<IncomingCall>&, std::string message)> serve;
    std::function<void(absl::StatusCode)> refused;  // told of an end before `serve` was called
    std::shared_ptr<void> underway;  // held until all that there is to send has been handed to the network
  };
  // Both give what a method's handler must return.
  static Reactor* Start(grpc::CallbackServerContext* context, Plan plan);
  static Reactor* Reject(const grpc::Status& status);

  // Whether nobody waits for the answer any more.
  bool ended() const;

  // The whole answer, or the error instead of one. Nothing after the first end.
  void Reply(const google::protobuf::MessageLite& message);
  void Refuse(const absl::Status& status, const base::Violations& violations = {});

  // From now on `answer` is told what happens, and alone calls the following. False: the call has ended already.
  bool Attach(std::shared_ptr<Answer> answer);
  void Write(const google::protobuf::MessageLite& message);  // one at a time
  void WriteAndEnd(const google::protobuf::MessageLite& message);
  void End(const grpc::Status& status);
  void TryCancel() { context_->TryCancel(); }  // Requires: OnDone has not returned

  IncomingCall(grpc::CallbackServerContext* context, Plan plan);

 private:
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  void BeginReading() override;                          // of RequestGate::Reader
  void StopReading(const absl::Status& status) override;  // likewise

  void Serve();
  bool BecomesEnded();
  void FinishUnread(const absl::Status& status);
  void FinishWith(const absl::Status& status, const base::Violations& violations);
  std::shared_ptr<Answer> answer() const;

  grpc::CallbackServerContext* const context_;  // valid until Finish is called, and until OnDone has returned
  Plan plan_;
  std::shared_ptr<IncomingCall> self_;
  RequestGate::Place place_;
  grpc::ByteBuffer request_;   // of gRPC while a read is under way, then of the thread that serves
  grpc::ByteBuffer response_;  // of the write under way

  mutable scheduler::Mutex mutex_;
  bool read_ ABSL_GUARDED_BY(mutex_) = false;   // the message is there
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;  // Finish was called, or is about to be
  std::shared_ptr<Answer> answer_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ebbinghaus::rpc
