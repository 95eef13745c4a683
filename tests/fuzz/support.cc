#include "tests/fuzz/support.h"

#include <sanitizer/allocator_interface.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "server/base/check.h"

namespace ebbinghaus::fuzz {
namespace {

bool metering = false;
int64_t live_bytes = 0, peak_bytes = 0;

void Allocated(const volatile void*, size_t size) {
  if (!metering) return;
  live_bytes += static_cast<int64_t>(size);
  peak_bytes = std::max(peak_bytes, live_bytes);
}

void Freed(const volatile void* memory) {
  if (metering && memory != nullptr) live_bytes -= static_cast<int64_t>(__sanitizer_get_allocated_size(const_cast<const void*>(memory)));
}

}  // namespace

PeakMemory::PeakMemory() {
  static const bool installed = __sanitizer_install_malloc_and_free_hooks(Allocated, Freed) != 0;
  EBB_CHECK(installed && !metering);
  live_bytes = peak_bytes = 0;
  metering = true;
}

PeakMemory::~PeakMemory() { metering = false; }

size_t PeakMemory::bytes() const { return static_cast<size_t>(peak_bytes); }

MemoryFile::MemoryFile(std::string_view content) : descriptor_(memfd_create("fuzz", MFD_CLOEXEC)) {
  EBB_CHECK(descriptor_ >= 0);
  EBB_CHECK(write(descriptor_, content.data(), content.size()) == static_cast<ssize_t>(content.size()));
  path_ = "/proc/self/fd/" + std::to_string(descriptor_);
}

MemoryFile::~MemoryFile() { close(descriptor_); }

}  // namespace ebbinghaus::fuzz
