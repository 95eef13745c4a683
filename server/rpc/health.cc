#include "server/rpc/health.h"

#include <algorithm>
#include <list>
#include <utility>

#include "grpc/health/v1/health.pb.h"
#include "grpcpp/server_context.h"
#include "server/rpc/gated_reactor.h"
#include "server/rpc/raw_service.h"

namespace ebbinghaus::rpc {
namespace {

namespace v1 = grpc::health::v1;

// What is known, and the calls that are to hear of changes.
class State {
 public:
  class Watcher {
   public:
    virtual ~Watcher() = default;
    virtual void Changed() = 0;
  };

  explicit State(std::vector<std::string> names) : names_(std::move(names)) {}

  v1::HealthCheckResponse StatusOf(const std::string& name) const {
    v1::HealthCheckResponse status;
    if (std::find(names_.begin(), names_.end(), name) == names_.end()) {
      status.set_status(v1::HealthCheckResponse::SERVICE_UNKNOWN);
      return status;
    }
    scheduler::MutexLock lock(mutex_);
    status.set_status(serving_ ? v1::HealthCheckResponse::SERVING : v1::HealthCheckResponse::NOT_SERVING);
    return status;
  }

  void SetServing(bool serving) {
    std::vector<std::shared_ptr<Watcher>> tell;
    {
      scheduler::MutexLock lock(mutex_);
      if (std::exchange(serving_, serving) == serving) return;
      for (auto watcher = watchers_.begin(); watcher != watchers_.end();) {
        if (std::shared_ptr<Watcher> there = watcher->lock()) {
          tell.push_back(std::move(there));
          ++watcher;
        } else {
          watcher = watchers_.erase(watcher);
        }
      }
    }
    for (const std::shared_ptr<Watcher>& watcher : tell) watcher->Changed();
  }

  void Add(std::weak_ptr<Watcher> watcher) {
    scheduler::MutexLock lock(mutex_);
    watchers_.remove_if([](const std::weak_ptr<Watcher>& other) { return other.expired(); });
    watchers_.push_back(std::move(watcher));
  }

 private:
  const std::vector<std::string> names_;
  mutable scheduler::Mutex mutex_;
  bool serving_ ABSL_GUARDED_BY(mutex_) = false;
  std::list<std::weak_ptr<Watcher>> watchers_ ABSL_GUARDED_BY(mutex_);
};

class CheckCall final : public GatedReactor {
 public:
  CheckCall(State* state, RequestGate* gate, std::string peer) : GatedReactor(gate, std::move(peer)), state_(state) {}

 private:
  void OnQuestion(const std::string& bytes) override {
    v1::HealthCheckRequest question;
    if (!question.ParseFromString(bytes)) return End({grpc::StatusCode::INVALID_ARGUMENT, "not a HealthCheckRequest"});
    const v1::HealthCheckResponse status = state_->StatusOf(question.service());
    if (status.status() == v1::HealthCheckResponse::SERVICE_UNKNOWN) {
      return End({grpc::StatusCode::NOT_FOUND, "there is no such service here"});
    }
    Answer(status);
  }
  void OnAnswered() override { End(grpc::Status::OK); }

  State* const state_;
};

class WatchCall final : public GatedReactor, public State::Watcher {
 public:
  WatchCall(State* state, RequestGate* gate, std::string peer) : GatedReactor(gate, std::move(peer)), state_(state) {}

 private:
  void OnQuestion(const std::string& bytes) override {
    v1::HealthCheckRequest question;
    if (!question.ParseFromString(bytes)) return End({grpc::StatusCode::INVALID_ARGUMENT, "not a HealthCheckRequest"});
    name_ = question.service();
    state_->Add(std::static_pointer_cast<WatchCall>(shared_from_this()));
    Changed();
  }

  // Tells what is new, or leaves it to OnAnswered while a client has not taken what was.
  void Changed() override {
    v1::HealthCheckResponse status;
    {
      scheduler::MutexLock lock(told_mutex_);
      status = state_->StatusOf(name_);
      if (telling_ || told_ == status.status()) return;
      telling_ = true;
      told_ = status.status();
    }
    Answer(status);
  }

  void OnAnswered() override {
    {
      scheduler::MutexLock lock(told_mutex_);
      telling_ = false;
    }
    Changed();
  }

  State* const state_;
  std::string name_;  // before anybody knows of this
  scheduler::Mutex told_mutex_;
  bool telling_ ABSL_GUARDED_BY(told_mutex_) = false;
  int told_ ABSL_GUARDED_BY(told_mutex_) = v1::HealthCheckResponse::UNKNOWN;
};

class Health final : public HealthService, private RawService {
 public:
  Health(std::vector<std::string> names, RequestGate* gate) : state_(std::move(names)) {
    Serve<CheckCall>("/grpc.health.v1.Health/Check", gate);
    Serve<WatchCall>("/grpc.health.v1.Health/Watch", gate);
  }

  grpc::Service* grpc_service() override { return this; }
  void SetServing(bool serving) override { state_.SetServing(serving); }

 private:
  template <typename Call>
  void Serve(const char* path, RequestGate* gate) {
    AddRawMethod(path, [this, gate](grpc::CallbackServerContext* context) {
      return GatedReactor::Start(std::make_shared<Call>(&state_, gate, context->peer()));
    });
  }

  State state_;
};

}  // namespace

std::unique_ptr<HealthService> MakeHealthService(std::vector<std::string> names, RequestGate* gate) {
  return std::make_unique<Health>(std::move(names), gate);
}

}  // namespace ebbinghaus::rpc
