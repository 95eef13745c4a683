#include "server/scheduler/fair_order.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <vector>

namespace ebbinghaus::scheduler {
namespace {

using Ticket = FairOrder::Ticket;

bool Everybody(Ticket) { return true; }

Client Host(const std::string& name, int port = 1) {
  return {name, name + ":" + std::to_string(port)};
}

// Lets the next one start, and end at once.
Ticket Serve(FairOrder& order) {
  const Ticket next = order.Next(Everybody).value();
  order.Start(next);
  order.Leave(next);
  return next;
}

TEST(FairOrder, OfOneClientTheFirstToComeIsTheFirstToGo) {
  FairOrder order(1);
  for (Ticket t : {1, 2, 3}) order.Wait(t, Host("a"));
  EXPECT_EQ(Serve(order), 1u);
  EXPECT_EQ(Serve(order), 2u);
  EXPECT_EQ(Serve(order), 3u);
  EXPECT_FALSE(order.Next(Everybody).has_value());
  EXPECT_EQ(order.owners(), 0u);
}

TEST(FairOrder, OneHostsManyConnectionsAreOneClientBesideAnotherHost) {
  FairOrder order(1);
  for (Ticket t = 1; t <= 100; ++t) order.Wait(t, Host("many", static_cast<int>(t)));
  order.Wait(101, Host("one"));
  order.Wait(102, Host("one"));
  std::vector<Ticket> first;
  for (int i = 0; i < 4; ++i) first.push_back(Serve(order));
  EXPECT_EQ(first, (std::vector<Ticket>{1, 101, 2, 102}));
}

TEST(FairOrder, TheConnectionsOfOneHostTakeTurns) {
  FairOrder order(1);
  for (Ticket t : {1, 2, 3}) order.Wait(t, Host("a", 1));
  order.Wait(4, Host("a", 2));
  EXPECT_EQ(Serve(order), 1u);
  EXPECT_EQ(Serve(order), 4u);
  EXPECT_EQ(Serve(order), 2u);
}

TEST(FairOrder, AClientThatHoldsMoreThanItsShareLetsOthersGoFirst) {
  FairOrder order(4);
  for (Ticket t : {1, 2, 3, 4, 5}) order.Wait(t, Host("a"));
  for (int i = 0; i < 4; ++i) order.Start(*order.Next(Everybody));  // alone it may have all slots
  for (Ticket t : {11, 12, 13}) order.Wait(t, Host("b"));
  order.Leave(1);
  EXPECT_EQ(order.Next(Everybody), 11u);
  order.Start(11);
  order.Leave(11);  // b's are short; the slot remains b's
  EXPECT_EQ(order.Next(Everybody), 12u);
  order.Start(12);
  order.Leave(2);
  order.Leave(3);  // a holds one, its share is two
  EXPECT_EQ(order.Next(Everybody), 5u) << "it is due longer than b";
  order.Leave(13);
  EXPECT_EQ(order.Next([](Ticket t) { return t != 5; }), std::nullopt);
}

TEST(FairOrder, NoSlotStaysEmptyForTheSakeOfAShare) {
  FairOrder order(4);
  for (Ticket t : {1, 2, 3, 4}) order.Wait(t, Host("a"));
  order.Wait(5, Host("b"));
  for (Ticket t : {1, 2, 3}) order.Start(t);
  EXPECT_EQ(order.Next([](Ticket t) { return t != 5; }), 4u);
}

TEST(FairOrder, RoomIsMadeByTheNewestOfWhoHasMost) {
  FairOrder order(2);
  for (Ticket t : {1, 2, 3, 4}) order.Wait(t, Host("a"));
  order.Start(1);
  for (Ticket t : {5, 6}) order.Wait(t, Host("b"));
  EXPECT_EQ(order.MakesRoomFor(Host("c")), 4u);
  EXPECT_EQ(order.MakesRoomFor(Host("b")), 4u) << "four against two";
  EXPECT_FALSE(order.MakesRoomFor(Host("a")).has_value());
  order.Leave(4);
  EXPECT_FALSE(order.MakesRoomFor(Host("b")).has_value()) << "three against two";
  order.Leave(3);
  order.Leave(2);
  EXPECT_EQ(order.MakesRoomFor(Host("c")), 6u) << "a runs one and has none that waits";
  order.Leave(6);
  EXPECT_FALSE(order.MakesRoomFor(Host("c")).has_value()) << "everybody has one";
}

TEST(FairOrder, ASecondConnectionOfTheSameHostGetsRoomToo) {
  FairOrder order(1);
  for (Ticket t : {1, 2, 3}) order.Wait(t, Host("a", 1));
  EXPECT_EQ(order.MakesRoomFor(Host("a", 2)), 3u);
  order.Leave(3);
  order.Wait(4, Host("a", 2));
  EXPECT_FALSE(order.MakesRoomFor(Host("a", 2)).has_value());
}

// A client that has been served asks again while others come without end: one or more before every
// start, each new, each with up to three calls.
TEST(FairOrder, WithNewcomersWithoutEndAClientStartsWithinAsManyTurnsAsClientsWait) {
  std::mt19937 random(1);
  const auto upto = [&](uint32_t n) { return std::uniform_int_distribution<uint32_t>(0, n)(random); };
  for (int schedule = 0; schedule < 3000; ++schedule) {
    FairOrder order(1);
    Ticket ticket = 0;
    uint32_t comers = 0;
    const auto newcomers = [&](uint32_t least) {
      for (uint32_t n = least + upto(2); n > 0; --n) {
        const Client client = Host("new" + std::to_string(++comers));
        for (uint32_t calls = 1 + upto(2); calls > 0; --calls) order.Wait(++ticket, client);
      }
    };
    const Ticket served = ++ticket;
    order.Wait(served, Host("old"));
    newcomers(0);
    while (Serve(order) != served) newcomers(1);
    newcomers(upto(5));
    for (uint32_t turns = upto(3); turns > 0 && order.waiting() > 0; --turns) Serve(order);
    const Ticket again = ++ticket;
    order.Wait(again, Host("old"));
    const size_t clients = order.owners();
    size_t turns = 0;
    do {
      ++turns;
      ASSERT_LE(turns, clients) << "schedule " << schedule;
      // Endless newcomers; who comes before any start has the present time as the old client has.
      if (turns > 1) newcomers(1);
    } while (Serve(order) != again);
  }
}

// Everything at once, by chance: several slots, clients with several connections, calls that give up.
TEST(FairOrder, NobodyIsStarvedWhateverTheOrderOfEvents) {
  std::mt19937 random(2);
  const auto upto = [&](uint32_t n) { return std::uniform_int_distribution<uint32_t>(0, n)(random); };
  for (int schedule = 0; schedule < 2000; ++schedule) {
    const uint32_t slots = 1 + upto(5), hosts = 1 + upto(6);
    FairOrder order(slots);
    std::map<Ticket, Client> waits;
    std::vector<Ticket> runs;
    Ticket ticket = 0;
    for (int event = 0; event < 60; ++event) {
      if (const uint32_t what = upto(9); what < 5) {
        const std::string host(1, static_cast<char>('a' + upto(hosts - 1)));
        waits[++ticket] = Host(host, static_cast<int>(upto(1)));
        order.Wait(ticket, waits[ticket]);
      } else if (what == 5 && !waits.empty()) {
        const auto at = std::next(waits.begin(), upto(static_cast<uint32_t>(waits.size()) - 1));
        order.Leave(at->first);
        waits.erase(at);
      } else if (!runs.empty()) {
        const uint32_t at = upto(static_cast<uint32_t>(runs.size()) - 1);
        order.Leave(runs[at]);
        runs.erase(runs.begin() + at);
      }
      while (runs.size() < slots) {
        const std::optional<Ticket> next = order.Next(Everybody);
        ASSERT_EQ(next.has_value(), !waits.empty()) << "no slot is left unused";
        if (!next) break;
        ASSERT_EQ(waits.count(*next), 1u);
        for (const auto& [earlier, client] : waits) {
          ASSERT_FALSE(earlier < *next && client == waits.at(*next)) << "a client's own go in order";
        }
        order.Start(*next);
        waits.erase(*next);
        runs.push_back(*next);
      }
      ASSERT_EQ(order.waiting(), waits.size());
      ASSERT_EQ(order.holding(), runs.size());
      std::set<std::string> owners;
      for (const auto& [waiting, client] : waits) owners.insert(client.owner);
      ASSERT_LE(owners.size(), order.owners());
      ASSERT_LE(order.owners(), waits.size() + runs.size());
    }
    // When nobody else comes, everybody starts.
    for (size_t left = waits.size(); left > 0; --left) {
      if (runs.size() == slots) {
        order.Leave(runs.front());
        runs.erase(runs.begin());
      }
      const Ticket next = order.Next(Everybody).value();
      order.Start(next);
      runs.push_back(next);
    }
    for (Ticket t : runs) order.Leave(t);
    ASSERT_EQ(order.owners(), 0u);
  }
}

}  // namespace
}  // namespace ebbinghaus::scheduler
