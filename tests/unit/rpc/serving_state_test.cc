#include "server/serving_state.h"

#include <gtest/gtest.h>

#include <vector>

namespace ebbinghaus {
namespace {

TEST(ServingState, ServesOnceLoadedUntilDraining) {
  ServingState state;
  EXPECT_EQ(state.name(), "loading");
  EXPECT_FALSE(state.serving());
  state.Loaded();
  EXPECT_EQ(state.name(), "serving");
  EXPECT_TRUE(state.serving());
  state.Draining();
  EXPECT_EQ(state.name(), "draining");
  EXPECT_FALSE(state.serving());
  EXPECT_TRUE(state.alive());
}

TEST(ServingState, AStuckEngineServesAgainIfItComesBackButNotIntoADrain) {
  ServingState state;
  std::vector<bool> told;
  state.Loaded();
  state.OnChange([&](bool serving) { told.push_back(serving); });
  state.Stuck(true);
  EXPECT_EQ(state.name(), "stuck");
  EXPECT_FALSE(state.alive());
  state.Stuck(false);
  state.Stuck(true);
  state.Draining();
  state.Stuck(false);
  EXPECT_EQ(state.name(), "draining");
  EXPECT_EQ(told, (std::vector<bool>{true, false, true, false, false, false}));
  state.OnChange(nullptr);
  state.Stuck(true);
  EXPECT_EQ(told.size(), 6u);
}

}  // namespace
}  // namespace ebbinghaus
