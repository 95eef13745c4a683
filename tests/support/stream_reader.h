// Reads a mailbox as a client would, and checks what every stream promises about the order of its events.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/scheduler/mailbox.h"

namespace ebbinghaus::support {

struct StreamReader {
  std::optional<scheduler::Started> started;
  std::vector<scheduler::TokenEvent> tokens;
  std::vector<scheduler::MemoryEvent> memory;
  std::optional<scheduler::Finished> finished;
  std::optional<absl::Status> status;  // ended early
  std::string order;                   // S, t, m, F, X: one letter per event

  bool ended() const { return finished || status; }
  std::string text() const {
    std::string all;
    for (const scheduler::TokenEvent& event : tokens) all += event.text;
    return all;
  }

  void Take(scheduler::Event event) {
    EXPECT_FALSE(ended()) << "an event after the end";
    if (auto* s = std::get_if<scheduler::Started>(&event)) {
      EXPECT_EQ(order, "") << "Started is not first";
      started = std::move(*s);
      order += 'S';
    } else if (auto* t = std::get_if<scheduler::TokenEvent>(&event)) {
      EXPECT_TRUE(started.has_value());
      tokens.push_back(std::move(*t));
      order += 't';
    } else if (auto* m = std::get_if<scheduler::MemoryEvent>(&event)) {
      EXPECT_TRUE(started.has_value());
      memory.push_back(std::move(*m));
      order += 'm';
    } else if (auto* f = std::get_if<scheduler::Finished>(&event)) {
      EXPECT_TRUE(started.has_value());
      EXPECT_EQ(f->generated_tokens, tokens.size());
      finished = std::move(*f);
      order += 'F';
    } else {
      status = std::get<absl::Status>(event);
      EXPECT_FALSE(status->ok());
      order += 'X';
    }
  }

  // All that is there now.
  StreamReader& ReadAll(scheduler::Mailbox& mailbox) {
    while (std::optional<scheduler::Event> event = mailbox.Pop()) Take(*std::move(event));
    return *this;
  }
};

}  // namespace ebbinghaus::support
