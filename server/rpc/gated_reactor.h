// A call that asks small questions, of which the gate knows.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "grpcpp/support/server_callback.h"
#include "server/rpc/byte_buffers.h"
#include "server/rpc/request_gate.h"
#include "server/rpc/status_conversion.h"
#include "server/scheduler/mutex.h"

namespace ebbinghaus::rpc {

// Reads and writes one message at a time; OnQuestion and OnAnswered say what comes next. Lives until gRPC is
// done with the call and nobody holds it any more. The public methods are thread safe.
class GatedReactor : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                     public RequestGate::Reader,
                     public std::enable_shared_from_this<GatedReactor> {
 public:
  using Reactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;

  // Gives what a method's handler must return; the first question is on its way then.
  static Reactor* Start(std::shared_ptr<GatedReactor> call) {
    GatedReactor* reactor = call.get();
    reactor->self_ = std::move(call);
    reactor->Ask();
    return reactor;
  }

  GatedReactor(RequestGate* gate, std::string peer) : gate_(gate), peer_(std::move(peer)) {}

  // The first one counts. A write that is under way is waited for.
  void End(const grpc::Status& status) {
    {
      scheduler::MutexLock lock(mutex_);
      if (std::exchange(ended_, true)) return;
      end_ = status;
      if (writing_) return;
    }
    Finish(status);
  }

 protected:
  virtual void OnQuestion(const std::string& bytes) = 0;
  virtual void OnQuestionsEnd() { End(grpc::Status::OK); }

  void Ask() { gate_->Enter(shared_from_this(), peer_, peer_, RequestGate::kAlwaysRoomBytes, &place_); }

  // Requires: no other write is under way.
  void Answer(const google::protobuf::MessageLite& message) {
    grpc::ByteBuffer bytes = ToByteBuffer(message);
    scheduler::MutexLock lock(mutex_);
    if (ended_) return;
    answer_ = std::move(bytes);
    writing_ = true;
    StartWrite(&answer_);
  }
  virtual void OnAnswered() = 0;

  void OnDone() override {
    place_.Leave();
    std::shared_ptr<GatedReactor> last = std::move(self_);
  }

 private:
  // Under the lock, because nothing may be started after Finish. (gRPC calls nobody back from in here.)
  void BeginReading() override {
    scheduler::MutexLock lock(mutex_);
    if (!ended_) StartRead(&question_);
  }

  void StopReading(const absl::Status& status) override { End(ToGrpcStatus(status)); }

  void OnReadDone(bool ok) override {
    place_.Leave();
    if (!ok) return OnQuestionsEnd();
    if (question_.Length() > RequestGate::kAlwaysRoomBytes) {
      return End({grpc::StatusCode::RESOURCE_EXHAUSTED, "the request is larger than any of this method"});
    }
    OnQuestion(ToString(question_));
  }

  void OnWriteDone(bool ok) override {
    grpc::Status end;
    {
      scheduler::MutexLock lock(mutex_);
      writing_ = false;
      if (!ok && !std::exchange(ended_, true)) end_ = {grpc::StatusCode::CANCELLED, "the call was cancelled"};
      ok = !ended_;
      end = end_;
    }
    ok ? OnAnswered() : Finish(end);
  }

  void OnCancel() override { End({grpc::StatusCode::CANCELLED, "the call was cancelled"}); }

  RequestGate* const gate_;
  const std::string peer_;
  std::shared_ptr<GatedReactor> self_;
  RequestGate::Place place_;
  grpc::ByteBuffer question_, answer_;

  scheduler::Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;  // Finish was called, or will be when the write has ended
  grpc::Status end_ ABSL_GUARDED_BY(mutex_);    // once ended_
};

}  // namespace ebbinghaus::rpc
