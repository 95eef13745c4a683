#include "server/watchdog.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

namespace ebbinghaus {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Watchdog, TellsWhenAStepTakesTooLongAndWhenItIsOver) {
  std::atomic<base::Duration> busy{milliseconds(40)};
  std::promise<void> stuck, over;
  std::atomic<int> changes = 0;
  Watchdog watchdog(milliseconds(50), [&] { return busy.load(); }, [&](bool is_stuck) {
    ++changes;
    (is_stuck ? stuck : over).set_value();  // twice would throw
  });
  busy = milliseconds(51);
  ASSERT_EQ(stuck.get_future().wait_for(seconds(20)), std::future_status::ready);
  busy = base::Duration::zero();
  ASSERT_EQ(over.get_future().wait_for(seconds(20)), std::future_status::ready);
  EXPECT_EQ(changes, 2);
}

TEST(Watchdog, EndsAtOnceHoweverLongItsTimeoutIs) {
  const Watchdog watchdog(std::chrono::hours(24 * 3650), [] { return base::Duration(1); }, [](bool) { FAIL(); });
}

}  // namespace
}  // namespace ebbinghaus
