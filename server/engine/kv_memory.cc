#include "server/engine/kv_memory.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace ebbinghaus::engine {
namespace {

constexpr uint64_t kUnknownLimit = uint64_t{8} << 30;

std::string Megabytes(uint64_t bytes) { return absl::StrCat(bytes / 1'000'000, " MB"); }

std::string Sum(uint64_t weight_bytes, const std::string& kv) {
  return absl::StrCat("not enough memory: weights ", Megabytes(weight_bytes), " + workspace ", Megabytes(kWorkspaceBytes),
                      " + ", kv);
}

}  // namespace

absl::StatusOr<uint64_t> KvMemoryBytes(uint64_t asked, uint64_t limit, uint64_t weight_bytes, uint64_t least) {
  const uint64_t beside = weight_bytes + kWorkspaceBytes;
  if (asked != 0 && asked < least) {
    return absl::InvalidArgumentError(
        absl::StrCat("--kv-memory of ", asked, " bytes holds less than one page per layer (", least, " bytes)"));
  }
  if (asked != 0) {
    if (limit == 0 || beside + asked <= limit) return asked;
    return absl::ResourceExhaustedError(absl::StrCat(Sum(weight_bytes, "--kv-memory "), Megabytes(asked), " = ",
                                                     Megabytes(beside + asked), ", but this machine or cgroup has ",
                                                     Megabytes(limit)));
  }
  const uint64_t usable = (limit == 0 ? kUnknownLimit : limit) / 5 * 4;
  // What the prefix cache keeps beside the pool takes a sixteenth of its capacity at most.
  if (const uint64_t pool = usable > beside ? (usable - beside) / 17 * 16 : 0; pool >= least) return pool;
  return absl::ResourceExhaustedError(absl::StrCat(
      Sum(weight_bytes, "K/V of at least "), Megabytes(least), " = ", Megabytes(beside + least), ", but 80 % of what this "
      "machine or cgroup has are ", Megabytes(usable), "; smaller weights (--weights int8 or int4) or an explicit --kv-memory "
      "may help"));
}

}  // namespace ebbinghaus::engine
