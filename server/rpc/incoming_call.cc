#include "server/rpc/incoming_call.h"

#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/retry.h"
#include "server/rpc/byte_buffers.h"
#include "server/rpc/status_conversion.h"

namespace ebbinghaus::rpc {
namespace {

// A client that retries by itself waits this long.
constexpr char kRetryPushback[] = "grpc-retry-pushback-ms";

}  // namespace

IncomingCall::Reactor* IncomingCall::Reject(const grpc::Status& status) {
  class Rejected final : public Reactor {
   public:
    explicit Rejected(const grpc::Status& status) { Finish(status); }
    void OnDone() override { delete this; }
  };
  return new Rejected(status);
}

IncomingCall::Reactor* IncomingCall::Start(grpc::CallbackServerContext* context, Plan plan) {
  auto call = std::make_shared<IncomingCall>(context, std::move(plan));
  call->self_ = call;
  const Plan& own = call->plan_;
  own.gate->Enter(call, own.client, context->peer(), own.max_request_bytes, &call->place_);
  return call.get();
}

IncomingCall::IncomingCall(grpc::CallbackServerContext* context, Plan plan)
    : context_(context), plan_(std::move(plan)) {}

bool IncomingCall::ended() const {
  scheduler::MutexLock lock(mutex_);
  return ended_;
}

// True for one alone, who then calls Finish.
bool IncomingCall::BecomesEnded() {
  scheduler::MutexLock lock(mutex_);
  return !std::exchange(ended_, true);
}

std::shared_ptr<Answer> IncomingCall::answer() const {
  scheduler::MutexLock lock(mutex_);
  return answer_;
}

// Under the lock, because nothing may be started after Finish. (gRPC calls nobody back from in here.)
void IncomingCall::BeginReading() {
  scheduler::MutexLock lock(mutex_);
  if (!ended_) StartRead(&request_);
}

void IncomingCall::StopReading(const absl::Status& status) {
  {
    scheduler::MutexLock lock(mutex_);
    if (read_ || std::exchange(ended_, true)) return;
  }
  FinishUnread(status);
}

void IncomingCall::OnReadDone(bool ok) {
  {
    scheduler::MutexLock lock(mutex_);
    if (ended_) return;
    read_ = ok;
  }
  if (!ok) return StopReading(absl::InvalidArgumentError("the call ended without a message"));
  const size_t bytes = request_.Length();
  absl::Status refusal;
  if (bytes > plan_.max_request_bytes) {
    refusal = base::NeverFits(absl::ResourceExhaustedError(absl::StrCat(
        "the request has ", bytes, " bytes; this method takes at most ", plan_.max_request_bytes,
        ", which is more than fits the model's context")));
  } else {
    place_.HasRead(bytes);
    if (plan_.pool == nullptr) return Serve();
    if (plan_.pool->Submit(plan_.client, bytes, [self = self_] { self->Serve(); })) return;
    refusal = absl::ResourceExhaustedError("too many requests wait to be read; retry later");
  }
  request_.Clear();
  place_.Leave();
  if (BecomesEnded()) FinishUnread(refusal);
}

void IncomingCall::Serve() {
  try {
    std::string message = ended() ? std::string() : ToString(request_);
    request_.Clear();
    if (!ended()) plan_.serve(shared_from_this(), std::move(message));
  } catch (const std::exception& error) {  // such as no memory; an answer that was attached ends by itself
    if (answer() == nullptr) Refuse(absl::InternalError(absl::StrCat("the request could not be read: ", error.what())));
  }
  place_.Leave();
}

void IncomingCall::FinishUnread(const absl::Status& status) {
  if (plan_.refused) plan_.refused(status.code());
  FinishWith(status, {});
}

// Requires: BecomesEnded was true.
void IncomingCall::FinishWith(const absl::Status& status, const base::Violations& violations) {
  if (const auto delay = base::RetryDelay(status)) {
    context_->AddTrailingMetadata(kRetryPushback, absl::StrCat(delay->count()));
  }
  plan_.underway.reset();
  Finish(ToGrpcStatus(status, violations));
}

void IncomingCall::Reply(const google::protobuf::MessageLite& message) {
  response_ = ToByteBuffer(message);
  if (BecomesEnded()) StartWriteAndFinish(&response_, {}, grpc::Status::OK);
}

void IncomingCall::Refuse(const absl::Status& status, const base::Violations& violations) {
  if (BecomesEnded()) FinishWith(status, violations);
}

bool IncomingCall::Attach(std::shared_ptr<Answer> answer) {
  scheduler::MutexLock lock(mutex_);
  if (ended_) return false;
  answer_ = std::move(answer);
  return true;
}

void IncomingCall::Write(const google::protobuf::MessageLite& message) {
  response_ = ToByteBuffer(message);
  StartWrite(&response_);
}

void IncomingCall::WriteAndEnd(const google::protobuf::MessageLite& message) { Reply(message); }

void IncomingCall::End(const grpc::Status& status) {
  if (BecomesEnded()) Finish(status);
}

void IncomingCall::OnWriteDone(bool ok) {
  if (const std::shared_ptr<Answer> attached = answer()) attached->OnWriteDone(ok);
}

void IncomingCall::OnCancel() {
  std::shared_ptr<Answer> attached;
  bool was_read = true;
  {
    scheduler::MutexLock lock(mutex_);
    attached = answer_;
    was_read = read_;
    if (attached == nullptr && std::exchange(ended_, true)) return;
  }
  if (attached != nullptr) return attached->OnCancel();
  const absl::Status cancelled = absl::CancelledError("the call was cancelled");
  was_read ? FinishWith(cancelled, {}) : FinishUnread(cancelled);
}

void IncomingCall::OnDone() {
  if (const std::shared_ptr<Answer> attached = answer()) attached->OnDone();
  plan_.underway.reset();
  bool read = false;
  {
    scheduler::MutexLock lock(mutex_);
    read = read_;
  }
  if (!read) place_.Leave();  // else that was done once the message was gone
  std::shared_ptr<IncomingCall> last = std::move(self_);
}

}  // namespace ebbinghaus::rpc
