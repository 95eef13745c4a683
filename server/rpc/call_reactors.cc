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

// What joins an answer to its mailbox. The engine may hold a callback for a moment longer than the call lives, so this is
// shared; the call lets go of it after OnDone.
class MailboxAnswer : public Answer, public std::enable_shared_from_this<MailboxAnswer> {
 public:
  MailboxAnswer(IncomingCall* call, std::shared_ptr<scheduler::Mailbox> mailbox)
      : call_(call), mailbox_(std::move(mailbox)) {}

  // The hang-up first: OnDone, which takes it away, may come as soon as the call knows of this.
  void Start() {
    auto self = shared_from_this();
    mailbox_->SetHangUp([self] {
      if (self->IsSending()) self->hang_up_.Cancel();
    });
    if (call_->Attach(self)) return Pump();
    mailbox_->Cancel();
    mailbox_->SetHangUp(nullptr);
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

 protected:
  // Takes events and goes on as far as it can.
  virtual void Pump() = 0;
  // Whether something is on its way that the reader may not take. If not, the status that follows ends the call.
  virtual bool IsSending() = 0;

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

  // True for one alone, who then ends the call.
  bool BecomesFinished() {
    scheduler::MutexLock lock(mutex_);
    return !std::exchange(finished_, true);
  }

  IncomingCall* const call_;  // valid until OnDone has returned
  const std::shared_ptr<scheduler::Mailbox> mailbox_;
  scheduler::Mutex mutex_;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // Finish was called, or is about to be

 private:
  bool done_ ABSL_GUARDED_BY(mutex_) = false;  // OnDone was called
  HangUp hang_up_{call_};
};

// Two threads may meet here: whoever runs Pump (the engine's thread, or a gRPC thread after a write; never both, since
// a ready callback is armed only when no write is under way) and the gRPC thread that brings OnCancel. `mutex_` decides
// which of them ends the call. No lock is held while calling out.
class StreamAnswer final : public MailboxAnswer {
 public:
  using MailboxAnswer::MailboxAnswer;

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

 private:
  bool IsSending() override {
    scheduler::MutexLock lock(mutex_);
    return writing_;
  }

  // Sends the next message, or waits for an event.
  void Pump() override {
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

  void End(const absl::Status& status) {
    if (BecomesFinished()) call_->End(ToGrpcStatus(status));
  }

  // Of whoever runs Pump.
  EventConverter converter_;
  std::vector<v1::GenerateResponse> messages_;  // of one event
  size_t next_ = 0;
  bool ends_ = false;  // messages_ are the stream's last

  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

// One message at the end. The threads that meet are those of StreamAnswer.
class CollectAnswer final : public MailboxAnswer {
 public:
  using MailboxAnswer::MailboxAnswer;

  void OnWriteDone(bool) override {}

  void OnCancel() override {
    mailbox_->Cancel();
    EndOnce(Cancelled());
  }

 private:
  bool IsSending() override {
    scheduler::MutexLock lock(mutex_);
    return finished_;
  }

  void Pump() override {
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

  void TooLong() {
    mailbox_->Cancel();
    EndOnce(ToGrpcStatus(base::NeverFits(absl::ResourceExhaustedError(absl::StrCat(
        "the answer is larger than the ", kMaxAnswerBytes, " bytes that clients accept; use Generate, which streams it")))));
  }

  void EndOnce(const grpc::Status& status, const scheduler::Finished* finished = nullptr) {
    if (!BecomesFinished()) return;
    if (finished == nullptr) return call_->End(status);
    v1::CompleteResponse response;
    response.set_text(std::move(text_));
    response.mutable_token_ids()->mutable_ids()->Add(ids_.begin(), ids_.end());
    if (started_.spec != nullptr) *response.mutable_started() = ToProto(started_);
    *response.mutable_finished() = ToProto(*finished);
    call_->WriteAndEnd(response);
  }

  // Of whoever runs Pump.
  scheduler::Started started_;
  std::string text_;
  std::vector<base::TokenId> ids_;
};

}  // namespace

void StreamEvents(const std::shared_ptr<IncomingCall>& call, std::shared_ptr<scheduler::Mailbox> mailbox) {
  std::make_shared<StreamAnswer>(call.get(), std::move(mailbox))->Start();
}

void CollectEvents(const std::shared_ptr<IncomingCall>& call, std::shared_ptr<scheduler::Mailbox> mailbox) {
  std::make_shared<CollectAnswer>(call.get(), std::move(mailbox))->Start();
}

}  // namespace ebbinghaus::rpc
