#include "server/scheduler/client.h"

#include <gtest/gtest.h>

namespace ebbinghaus::scheduler {
namespace {

TEST(ClientOf, TheConnectionsOfOneHostBelongToOneOwner) {
  struct Case {
    const char* peer;
    const char* owner;
  };
  for (const Case& c : {
           Case{"ipv4:192.0.2.1:4711", "host 192.0.2.1"},
           Case{"ipv4:192.0.2.1:4712", "host 192.0.2.1"},
           Case{"ipv4:192.0.2.2:4711", "host 192.0.2.2"},
           Case{"ipv6:%5B2001:db8:1:2:3:4:5:6%5D:4711", "host 2001:db8:1:2::/64"},
           Case{"ipv6:[2001:db8:1:2:ffff::1]:1", "host 2001:db8:1:2::/64"},
           Case{"ipv6:[2001:db8:1:3::1]:1", "host 2001:db8:1:3::/64"},
           Case{"ipv6:%5B::1%5D:4711", "host ::/64"},
           Case{"ipv6:%5B::ffff:192.0.2.1%5D:4711", "host 192.0.2.1"},
           Case{"ipv6:%5Bfe80::1%25eth0%5D:4711", "host fe80::/64"},
           Case{"unix:/run/socket", "host unix:/run/socket"},
           Case{"ipv4:", "host "},
           Case{"", "host "},
       }) {
    const Client client = ClientOf("", c.peer);
    EXPECT_EQ(client.owner, c.owner) << c.peer;
    EXPECT_EQ(client.connection, c.peer);
  }
}

TEST(ClientOf, ANameOwnsWhateverItsHostsAndNobodyCanTakeItForAnAddress) {
  EXPECT_EQ(ClientOf("alice", "ipv4:1.2.3.4:5").owner, "token alice");
  EXPECT_EQ(ClientOf("alice", "ipv4:1.2.3.5:6").owner, "token alice");
  EXPECT_NE(ClientOf("1.2.3.4", "").owner, ClientOf("", "ipv4:1.2.3.4:5").owner);
}

}  // namespace
}  // namespace ebbinghaus::scheduler
