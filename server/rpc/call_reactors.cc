#include "server/rpc/call_reactors.h"

#include <condition_variable>
#include <thread>
#include <utility>
#include <vector>

#include "grpcpp/server_context.h"
#include "server/rpc/event_conversion.h"
#include "server/rpc/status_conversion.h"
#include "server/scheduler/mutex.h"

namespace ebbinghaus::rpc {
namespace {

grpc::Status Cancelled() { return {grpc::StatusCode::CANCELLED, "the call was cancelled"}; }

// Two threads may meet here: whoever runs Pump (the engine's thread, or a gRPC thread after a write; never both, since
// a ready callback is armed only when no write is under way) and the gRPC thread that brings OnCancel. `mutex_` decides
// which of them calls Finish. No lock is held while calling out.
//
// The engine may hold the ready callback for a moment longer than the call lives, so the reactor counts its references
// and lets go of its own in OnDone.
class StreamReactor final : public grpc::ServerWriteReactor<v1::GenerateResponse>,
                            public std::enable_shared_from_this<StreamReactor> {
 public:
  static StreamReactor* Start(grpc::CallbackServerContext* context, std::shared_ptr<scheduler::Mailbox> mailbox,
                              std::shared_ptr<void> underway) {
    auto reactor = std::make_shared<StreamReactor>(context, std::move(mailbox), std::move(underway));
    reactor->self_ = reactor;
    reactor->mailbox_->SetHangUp([reactor] { reactor->HangUp(); });
    reactor->Pump();
    return reactor.get();
  }

  StreamReactor(grpc::CallbackServerContext* context, std::shared_ptr<scheduler::Mailbox> mailbox,
                std::shared_ptr<void> underway)
      : context_(context), mailbox_(std::move(mailbox)), underway_(std::move(underway)) {}

  void OnWriteDone(bool ok) override {
    {
      scheduler::MutexLock lock(mutex_);
      writing_ = false;
      if (finished_) return;
      finished_ = cancelled_ || !ok;
      ok = !finished_;
    }
    if (ok) return Pump();
    mailbox_->Cancel();
    Finish(Cancelled());
  }

  void OnCancel() override {
    mailbox_->Cancel();  // frees the sequence whatever becomes of a write under way
    {
      scheduler::MutexLock lock(mutex_);
      cancelled_ = true;
      if (finished_ || writing_) return;  // OnWriteDone finishes
      finished_ = true;
    }
    Finish(Cancelled());
  }

  void OnDone() override {
    WaitForHangUp();           // it uses the context, which is gone after this
    mailbox_->OnReady([] {});  // lets go of the callbacks that hold this object
    mailbox_->SetHangUp(nullptr);
    underway_.reset();
    std::shared_ptr<StreamReactor> last = std::move(self_);
  }

 private:
  // Ends the call under a write that its reader does not take. Without one, the status that follows ends it.
  void HangUp() {
    {
      scheduler::MutexLock lock(mutex_);
      if (done_ || !writing_) return;
      hanging_up_ = std::this_thread::get_id();
    }
    context_->TryCancel();  // may run OnCancel, and even OnDone, before it returns
    {
      scheduler::MutexLock lock(mutex_);
      hanging_up_ = std::thread::id();
    }
    hung_up_.notify_all();
  }

  void WaitForHangUp() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    std::unique_lock lock(mutex_);
    done_ = true;
    hung_up_.wait(lock, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return hanging_up_ == std::thread::id() || hanging_up_ == std::this_thread::get_id();
    });
  }

  // Sends the next message, or waits for an event.
  void Pump() {
    while (next_ == messages_.size()) {
      std::optional<scheduler::Event> event = mailbox_->Pop();
      if (!event) return Wait();
      if (const auto* status = std::get_if<absl::Status>(&*event)) return End(*status);
      messages_ = converter_.Convert(*event);
      next_ = 0;
      ends_ = std::holds_alternative<scheduler::Finished>(*event);
    }
    const v1::GenerateResponse* message = &messages_[next_++];
    const bool last = ends_ && next_ == messages_.size();
    {
      scheduler::MutexLock lock(mutex_);
      if (finished_) return;
      writing_ = true;
      finished_ = last;
    }
    if (last) {
      StartWriteAndFinish(message, grpc::WriteOptions(), grpc::Status::OK);
    } else {
      StartWrite(message);
    }
  }

  // Pump goes on when there is an event. If the call ended meanwhile, OnDone may have come before the callback was set.
  void Wait() {
    auto self = shared_from_this();  // the callback may run, and the call end, before OnReady returns
    mailbox_->OnReady([self] { self->Pump(); });
    {
      scheduler::MutexLock lock(mutex_);
      if (!done_) return;
    }
    mailbox_->OnReady([] {});
  }

  void End(const absl::Status& status) {
    {
      scheduler::MutexLock lock(mutex_);
      if (finished_) return;
      finished_ = true;
    }
    Finish(ToGrpcStatus(status));
  }

  grpc::CallbackServerContext* const context_;  // valid until OnDone
  const std::shared_ptr<scheduler::Mailbox> mailbox_;
  std::shared_ptr<void> underway_;
  std::shared_ptr<StreamReactor> self_;

  // Of whoever runs Pump.
  EventConverter converter_;
  std::vector<v1::GenerateResponse> messages_;  // of one event; gRPC reads the one under way
  size_t next_ = 0;
  bool ends_ = false;  // messages_ are the stream's last

  scheduler::Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // Finish was called, or is about to be
  bool done_ ABSL_GUARDED_BY(mutex_) = false;      // OnDone was called
  std::thread::id hanging_up_ ABSL_GUARDED_BY(mutex_);
  std::condition_variable_any hung_up_;
};

// As StreamReactor, without writes.
class CollectReactor final : public grpc::ServerUnaryReactor, public std::enable_shared_from_this<CollectReactor> {
 public:
  static CollectReactor* Start(std::shared_ptr<scheduler::Mailbox> mailbox, v1::CompleteResponse* response,
                               std::shared_ptr<void> underway) {
    auto reactor = std::make_shared<CollectReactor>(std::move(mailbox), response, std::move(underway));
    reactor->self_ = reactor;
    reactor->Pump();
    return reactor.get();
  }

  CollectReactor(std::shared_ptr<scheduler::Mailbox> mailbox, v1::CompleteResponse* response,
                 std::shared_ptr<void> underway)
      : mailbox_(std::move(mailbox)), response_(response), underway_(std::move(underway)) {}

  void OnCancel() override {
    mailbox_->Cancel();
    FinishOnce(Cancelled());
  }

  void OnDone() override {
    {
      scheduler::MutexLock lock(mutex_);
      done_ = true;
    }
    mailbox_->OnReady([] {});
    underway_.reset();
    std::shared_ptr<CollectReactor> last = std::move(self_);
  }

 private:
  void Pump() {
    while (std::optional<scheduler::Event> event = mailbox_->Pop()) {
      if (const auto* status = std::get_if<absl::Status>(&*event)) return FinishOnce(ToGrpcStatus(*status));
      if (const auto* token = std::get_if<scheduler::TokenEvent>(&*event)) {
        text_ += token->text;
        ids_.push_back(token->token.id);
      } else if (auto* started = std::get_if<scheduler::Started>(&*event)) {
        started_ = std::move(*started);
      } else if (const auto* finished = std::get_if<scheduler::Finished>(&*event)) {
        return FinishOnce(grpc::Status::OK, finished);
      }
    }
    Wait();
  }

  void Wait() {  // as StreamReactor::Wait
    auto self = shared_from_this();  // the callback may run, and the call end, before OnReady returns
    mailbox_->OnReady([self] { self->Pump(); });
    {
      scheduler::MutexLock lock(mutex_);
      if (!done_) return;
    }
    mailbox_->OnReady([] {});
  }

  // The response is touched only by the one that finishes: after that it belongs to gRPC.
  void FinishOnce(const grpc::Status& status, const scheduler::Finished* finished = nullptr) {
    {
      scheduler::MutexLock lock(mutex_);
      if (finished_) return;
      finished_ = true;
    }
    if (finished != nullptr) {
      response_->set_text(std::move(text_));
      response_->mutable_token_ids()->mutable_ids()->Add(ids_.begin(), ids_.end());
      if (started_.spec != nullptr) *response_->mutable_started() = ToProto(started_);
      *response_->mutable_finished() = ToProto(*finished);
    }
    Finish(status);
  }

  const std::shared_ptr<scheduler::Mailbox> mailbox_;
  v1::CompleteResponse* const response_;
  std::shared_ptr<void> underway_;
  std::shared_ptr<CollectReactor> self_;

  // Of whoever runs Pump.
  scheduler::Started started_;
  std::string text_;
  std::vector<base::TokenId> ids_;

  scheduler::Mutex mutex_;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::GenerateResponse>* StreamEvents(grpc::CallbackServerContext* context,
                                                               std::shared_ptr<scheduler::Mailbox> mailbox,
                                                               std::shared_ptr<void> underway) {
  return StreamReactor::Start(context, std::move(mailbox), std::move(underway));
}

grpc::ServerUnaryReactor* CollectEvents(std::shared_ptr<scheduler::Mailbox> mailbox, v1::CompleteResponse* response,
                                        std::shared_ptr<void> underway) {
  return CollectReactor::Start(std::move(mailbox), response, std::move(underway));
}

}  // namespace ebbinghaus::rpc
