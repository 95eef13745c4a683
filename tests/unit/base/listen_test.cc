#include "server/base/listen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace ebbinghaus::base {
namespace {

using testing::HasSubstr;

struct Opened {
  explicit Opened(const std::string& host, uint16_t port = 0) : sockets(ListeningSockets::Open(host, port)) {
    if (sockets.ok()) descriptors = sockets->Take();
  }
  ~Opened() {
    for (int fd : descriptors) close(fd);
  }
  int Option(int level, int name) const {
    int value = -1;
    socklen_t size = sizeof value;
    getsockopt(descriptors.at(0), level, name, &value, &size);
    return value;
  }
  absl::StatusOr<ListeningSockets> sockets;
  std::vector<int> descriptors;
};

bool HasIpv6() { return Opened("::1").sockets.ok(); }

TEST(ListeningSocketsTest, PortZeroIsAFreePortThatIsNotShared) {
  Opened first("127.0.0.1");
  ASSERT_TRUE(first.sockets.ok()) << first.sockets.status();
  EXPECT_GT(first.sockets->port(), 0);
  Opened second("127.0.0.1", first.sockets->port());
  EXPECT_EQ(second.sockets.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(second.sockets.status().message(),
            absl::StrCat("cannot listen on 127.0.0.1:", first.sockets->port(), ": the port is in use"));
}

TEST(ListeningSocketsTest, EveryIpv4AddressIsIpv4Alone) {
  Opened opened("0.0.0.0");
  ASSERT_EQ(opened.descriptors.size(), 1);
  EXPECT_EQ(opened.Option(SOL_SOCKET, SO_DOMAIN), AF_INET);
  EXPECT_FALSE(opened.sockets->ipv4_instead());
}

TEST(ListeningSocketsTest, EveryAddressIsBothFamiliesInOneSocket) {
  Opened opened("[::]");
  ASSERT_EQ(opened.descriptors.size(), 1);
  if (opened.sockets->ipv4_instead()) GTEST_SKIP() << "no IPv6 here";
  EXPECT_EQ(opened.Option(SOL_SOCKET, SO_DOMAIN), AF_INET6);
  EXPECT_EQ(opened.Option(IPPROTO_IPV6, IPV6_V6ONLY), 0);
}

TEST(ListeningSocketsTest, AnIpv6AddressMayStandInBracketsOrNot) {
  if (!HasIpv6()) GTEST_SKIP() << "no IPv6 here";
  EXPECT_TRUE(Opened("[::1]").sockets.ok());
  EXPECT_TRUE(Opened("::1").sockets.ok());
}

TEST(ListeningSocketsTest, ANameIsAllItsAddressesOnOnePort) {
  Opened opened("localhost");
  ASSERT_TRUE(opened.sockets.ok()) << opened.sockets.status();
  for (const int fd : opened.descriptors) {
    sockaddr_in6 address{};
    socklen_t size = sizeof address;
    getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
    EXPECT_EQ(ntohs(address.sin6_port), opened.sockets->port());  // where IPv4 has it too
  }
}

TEST(ListeningSocketsTest, WhatIsNotHereIsAnErrorThatNamesIt) {
  for (const char* host : {"192.0.2.1", "no such host", "", "[::1", "1.2.3.4.5"}) {
    Opened opened(host);
    EXPECT_EQ(opened.sockets.status().code(), absl::StatusCode::kUnavailable) << host;
    EXPECT_THAT(std::string(opened.sockets.status().message()), HasSubstr(absl::StrCat("cannot listen on ", host)));
  }
}

}  // namespace
}  // namespace ebbinghaus::base
