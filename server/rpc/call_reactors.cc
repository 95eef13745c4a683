#include "server/rpc/call_reactors.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ebbinghaus/v1/inference.pb.h"
#include "server/base/retry.h"
#include "server/rpc/answer_limits.h"
#include "server/rpc/event_conversion.h"
#include "server/rpc/hang_up.h"
#include "server/rpc/status_conversion.h"
#include "server/scheduler/mutex.h"

namespace ebbinghaus::rpc {
namespace {

grpc::Status Cancelled() { return {grpc::StatusCode::CANCELLED, "the call was cancelled"}; }

// Two threads may meet here: whoever runs Pump (the engine's thread, or a gRPC thread after a write; never both, since
// a ready callback is armed only when no write is under way) and the gRPC thread that brings OnCancel. `mutex_` decides
// which of them ends the call. No lock is held while calling out.
//
// The engine may hold the ready callback for a moment longer than the call lives, so this is shared; the call lets go of it
// after OnDone.
class StreamAnswer final : public Answer, public std::enable_shared_from_this<StreamAnswer> {
 public:
  StreamAnswer(IncomingCall* call, std::shared_ptr<scheduler::Mailbox> mailbox)
      : call_(call), mailbox_(std::move(mailbox)) {}

  // The hang-up first: OnDone, which takes it away, may come as soon as the call knows of this.
  void Start() {
    auto self = shared_from_this();
    mailbox_->SetHangUp([self] { self->EndUnread(); });
    if (call_->Attach(self)) return Pump();
    mailbox_->Cancel();
    mailbox_->SetHangUp(nullptr);
  }

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
    call_->End(Cancelled());
  }

  void OnCancel() override {
    mailbox_->Cancel();  // frees the sequence whatever becomes of a write under way
    {
      scheduler::MutexLock lock(mutex_);
      cancelled_ = true;
      if (finished_ || writing_) return;  // OnWriteDone finishes
      finished_ = true;
    }
    call_->End(Cancelled());
  }

  void OnDone() override {
    hang_up_.Close();
    {
      scheduler::MutexLock lock(mutex_);
      done_ = true;
    }
    mailbox_->OnReady([] {});  // lets go of the callbacks that hold this object
    mailbox_->SetHangUp(nullptr);
  }

 private:
  // Ends the call under a write that its reader does not take. Without one, the status that follows ends it.
  void EndUnread() {
    {
      scheduler::MutexLock lock(mutex_);
      if (!writing_) return;
    }
    hang_up_.Cancel();
  }

  // Sends the next message, or waits for an event.
  void Pump() {
    while (next_ == messages_.size()) {
      if (mailbox_->for_courier()) return Wait();
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
      call_->WriteAndEnd(*message);
    } else {
      call_->Write(*message);
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
    call_->End(ToGrpcStatus(status));
  }

  IncomingCall* const call_;  // valid until OnDone has returned
  const std::shared_ptr<scheduler::Mailbox> mailbox_;

  // Of whoever runs Pump.
  EventConverter converter_;
  std::vector<v1::GenerateResponse> messages_;  // of one event
  size_t next_ = 0;
  bool ends_ = false;  // messages_ are the stream's last

  scheduler::Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // Finish was called, or is about to be
  bool done_ ABSL_GUARDED_BY(mutex_) = false;      // OnDone was called
  HangUp hang_up_{call_};
};

// As StreamAnswer, without writes.
class CollectAnswer final : public Answer, public std::enable_shared_from_this<CollectAnswer> {
 public:
  CollectAnswer(IncomingCall* call, std::shared_ptr<scheduler::Mailbox> mailbox)
      : call_(call), mailbox_(std::move(mailbox)) {}

  void Start() {  // as StreamAnswer::Start
    auto self = shared_from_this();
    mailbox_->SetHangUp([self] { self->EndUnread(); });
    if (call_->Attach(self)) return Pump();
    mailbox_->Cancel();
    mailbox_->SetHangUp(nullptr);
  }

  void OnWriteDone(bool) override {}

  void OnCancel() override {
    mailbox_->Cancel();
    EndOnce(Cancelled());
  }

  void OnDone() override {
    hang_up_.Close();
    {
      scheduler::MutexLock lock(mutex_);
      done_ = true;
    }
    mailbox_->OnReady([] {});
    mailbox_->SetHangUp(nullptr);
  }

 private:
  void Pump() {
    while (std::optional<scheduler::Event> event = mailbox_->Pop()) {
      if (const auto* status = std::get_if<absl::Status>(&*event)) return EndOnce(ToGrpcStatus(*status));
      if (const auto* token = std::get_if<scheduler::TokenEvent>(&*event)) {
        text_ += token->text;
        ids_.push_back(token->token.id);
        if (text_.size() + ids_.size() * kMaxIdBytes > kMaxAnswerBytes) return TooLong();
      } else if (auto* started = std::get_if<scheduler::Started>(&*event)) {
        started_ = std::move(*started);
      } else if (const auto* finished = std::get_if<scheduler::Finished>(&*event)) {
        return EndOnce(grpc::Status::OK, finished);
      }
    }
    Wait();
  }

  void Wait() {  // as StreamAnswer::Wait
    auto self = shared_from_this();  // the callback may run, and the call end, before OnReady returns
    mailbox_->OnReady([self] { self->Pump(); });
    {
      scheduler::MutexLock lock(mutex_);
      if (!done_) return;
    }
    mailbox_->OnReady([] {});
  }

  // The answer is on its way, and its reader does not take it.
  void EndUnread() {
    {
      scheduler::MutexLock lock(mutex_);
      if (!finished_) return;
    }
    hang_up_.Cancel();
  }

  void TooLong() {
    mailbox_->Cancel();
    EndOnce(ToGrpcStatus(base::NeverFits(absl::ResourceExhaustedError(absl::StrCat(
        "the answer is larger than the ", kMaxAnswerBytes, " bytes that clients accept; use Generate, which streams it")))));
  }

  void EndOnce(const grpc::Status& status, const scheduler::Finished* finished = nullptr) {
    {
      scheduler::MutexLock lock(mutex_);
      if (finished_) return;
      finished_ = true;
    }
    if (finished == nullptr) return call_->End(status);
    v1::CompleteResponse response;
    response.set_text(std::move(text_));
    response.mutable_token_ids()->mutable_ids()->Add(ids_.begin(), ids_.end());
    if (started_.spec != nullptr) *response.mutable_started() = ToProto(started_);
    *response.mutable_finished() = ToProto(*finished);
    call_->WriteAndEnd(response);
  }

  IncomingCall* const call_;  // valid until OnDone has returned
  const std::shared_ptr<scheduler::Mailbox> mailbox_;

  // Of whoever runs Pump.
  scheduler::Started started_;
  std::string text_;
  std::vector<base::TokenId> ids_;

  scheduler::Mutex mutex_;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  HangUp hang_up_{call_};
};

}  // namespace

void StreamEvents(const std::shared_ptr<IncomingCall>& call, std::shared_ptr<scheduler::Mailbox> mailbox) {
  std::make_shared<StreamAnswer>(call.get(), std::move(mailbox))->Start();
}

void CollectEvents(const std::shared_ptr<IncomingCall>& call, std::shared_ptr<scheduler::Mailbox> mailbox) {
  std::make_shared<CollectAnswer>(call.get(), std::move(mailbox))->Start();
}

}  // namespace ebbinghaus::rpc
