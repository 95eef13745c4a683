#include "server/rpc/watched_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>

#include "server/scheduler/log.h"

namespace ebbinghaus::rpc {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class WatchedFilesTest : public testing::Test {
 protected:
  WatchedFilesTest() {
    std::string folder = testing::TempDir() + "watched_XXXXXX";
    folder_ = mkdtemp(folder.data());
    scheduler::LogOptions options;
    options.sink = [this](std::string_view line) { log_.emplace_back(line); };
    scheduler::ConfigureLog(options);
  }
  ~WatchedFilesTest() override {
    scheduler::ConfigureLog({});
    fs::remove_all(folder_);
  }

  std::string Path(const std::string& name) const { return folder_ / name; }
  void Write(const std::string& name, const std::string& text) { std::ofstream(Path(name), std::ios::binary) << text; }

  WatchedFiles Watch(const std::vector<std::string>& names) {
    std::vector<std::string> paths;
    for (const std::string& name : names) paths.push_back(Path(name));
    return WatchedFiles("things", paths, [this](const std::vector<std::string>& contents) {
      if (contents[0] == "bad") return absl::InvalidArgumentError("not to my liking");
      used_.push_back(contents);
      return absl::OkStatus();
    });
  }

  fs::path folder_;
  std::vector<std::vector<std::string>> used_;
  std::vector<std::string> log_;
};

TEST_F(WatchedFilesTest, AreUsedAtOnceAndAgainOnceAChangeHasSettled) {
  Write("a", "1");
  Write("b", "2");
  WatchedFiles files = Watch({"a", "b"});
  ASSERT_TRUE(files.Load().ok());
  EXPECT_THAT(used_, ElementsAre(ElementsAre("1", "2")));
  files.Poll();
  files.Poll();
  EXPECT_EQ(used_.size(), 1u);
  EXPECT_THAT(log_, IsEmpty());
  Write("a", "3");
  files.Poll();  // in the middle of it, for all we know
  Write("b", "4");
  files.Poll();
  EXPECT_EQ(used_.size(), 1u);
  files.Poll();
  EXPECT_EQ(used_.size(), 2u);
  EXPECT_THAT(used_.back(), ElementsAre("3", "4"));
  EXPECT_THAT(log_, ElementsAre(HasSubstr("reloaded")));
  files.Poll();
  EXPECT_EQ(used_.size(), 2u);
}

TEST_F(WatchedFilesTest, WhatCannotBeUsedIsToldOnceAndTriedAgainWhenItChanges) {
  Write("a", "1");
  WatchedFiles files = Watch({"a"});
  ASSERT_TRUE(files.Load().ok());
  Write("a", "bad");
  for (int i = 0; i < 5; ++i) files.Poll();
  ASSERT_EQ(log_.size(), 1u);
  EXPECT_THAT(log_[0], testing::AllOf(HasSubstr("warning reload_failed"), HasSubstr("not to my liking"), HasSubstr("things")));
  fs::remove(Path("a"));
  for (int i = 0; i < 5; ++i) files.Poll();
  ASSERT_EQ(log_.size(), 2u);
  EXPECT_THAT(log_[1], HasSubstr("cannot read"));
  Write("a", "1");
  for (int i = 0; i < 5; ++i) files.Poll();
  EXPECT_EQ(used_.size(), 2u);
  EXPECT_THAT(log_.back(), HasSubstr("reloaded"));
}

TEST_F(WatchedFilesTest, SymbolicLinksThatAreSwappedAreFollowed) {  // as Kubernetes replaces a secret
  for (const char* version : {"v1", "v2"}) {
    fs::create_directory(Path(version));
    Write(std::string(version) + "/cert", std::string("cert of ") + version);
    Write(std::string(version) + "/key", std::string("key of ") + version);
  }
  fs::create_directory_symlink("v1", Path("..data"));
  fs::create_symlink("..data/cert", Path("cert"));
  fs::create_symlink("..data/key", Path("key"));
  WatchedFiles files = Watch({"cert", "key"});
  ASSERT_TRUE(files.Load().ok());
  fs::create_directory_symlink("v2", Path("..data_tmp"));
  fs::rename(Path("..data_tmp"), Path("..data"));
  fs::remove_all(Path("v1"));
  files.Poll();
  files.Poll();
  EXPECT_THAT(used_.back(), ElementsAre("cert of v2", "key of v2"));
}

TEST_F(WatchedFilesTest, WhatIsNoFileOrTooLargeIsAnErrorWithItsPath) {
  Write("big", std::string(WatchedFiles::kMaxFileBytes + 1, 'x'));
  fs::create_directory(Path("folder"));
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  for (const char* name : {"big", "folder", "pipe", "nothing"}) {
    const absl::Status status = Watch({name}).Load();
    EXPECT_FALSE(status.ok()) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(Path(name)));
  }
  Write("most", std::string(WatchedFiles::kMaxFileBytes, 'x'));
  EXPECT_TRUE(Watch({"most"}).Load().ok());
}

TEST_F(WatchedFilesTest, AThreadPollsUntilItIsStopped) {
  Write("a", "1");
  std::atomic<int> uses = 0;
  std::vector<std::unique_ptr<WatchedFiles>> files;
  files.push_back(std::make_unique<WatchedFiles>("things", std::vector<std::string>{Path("a")}, [&](const auto&) {
    ++uses;
    return absl::OkStatus();
  }));
  ASSERT_TRUE(files[0]->Load().ok());
  FilePoller poller(std::move(files), std::chrono::milliseconds(1));
  Write("a", "2");
  while (uses < 2) std::this_thread::yield();
}

}  // namespace
}  // namespace ebbinghaus::rpc
