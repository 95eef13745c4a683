#include "server/kernels/huge_buffer.h"

#include <sys/mman.h>

#include <new>

namespace ebbinghaus::kernels {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

size_t RoundUp(size_t bytes) { return (bytes + kHugePage - 1) / kHugePage * kHugePage; }

}  // namespace

HugeBuffer::HugeBuffer(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
  const size_t room = RoundUp(bytes) + kHugePage;
  void* mapped = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  const auto begin = reinterpret_cast<uintptr_t>(mapped);
  const uintptr_t aligned = RoundUp(begin);
  const size_t before = aligned - begin, after = room - before - RoundUp(bytes);
  if (before > 0) munmap(mapped, before);
  if (after > 0) munmap(reinterpret_cast<void*>(aligned + RoundUp(bytes)), after);
  data_ = reinterpret_cast<std::byte*>(aligned);
  madvise(data_, RoundUp(bytes), MADV_HUGEPAGE);  // a wish; without it everything still works
}

HugeBuffer::~HugeBuffer() {
  if (data_ != nullptr) munmap(data_, RoundUp(size_));
}

}  // namespace ebbinghaus::kernels
