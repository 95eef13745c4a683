// Lets an interrupt (Ctrl-C) end the calls underway.
#pragma once

#include <mutex>
#include <set>

#include "grpcpp/client_context.h"

namespace ebbinghaus::client {

// Thread safety: all methods may be called from any thread.
class Cancellation {
 public:
  // Registers a call for as long as this object lives. A call that begins after Trigger is
  // cancelled at once.
  class Scope {
   public:
    Scope(Cancellation& owner, grpc::ClientContext& context);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Cancellation& owner_;
    grpc::ClientContext& context_;
  };

  // Cancels the calls underway. False if there is none, so that the program has to be ended another
  // way.
  bool Trigger();
  bool triggered() const;

 private:
  mutable std::mutex mutex_;
  bool triggered_ = false;
  std::set<grpc::ClientContext*> contexts_;  // not owned; the calls underway
};

}  // namespace ebbinghaus::client
