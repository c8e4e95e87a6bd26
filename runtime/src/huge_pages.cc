#include "huge_pages.h"

#include <sys/mman.h>

#include "networks/panels.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

constexpr size_t kPage = 2 << 20;

// Where the sanitizer watches arrays of their own, ends in common would hide what it looks for.
#if defined(__has_feature)
constexpr bool kUsed = !__has_feature(address_sanitizer);
#elif defined(__SANITIZE_ADDRESS__)
constexpr bool kUsed = false;
#else
constexpr bool kUsed = true;
#endif

}  // namespace

void HugePages::Unmap::operator()(std::byte *memory) const { munmap(memory, bytes); }

size_t HugePages::room(size_t bytes) {
    constexpr size_t kLine = sizeof(float) * kLineFloats;
    return (bytes + kLine - 1) / kLine * kLine;
}

bool HugePages::map(size_t bytes) {
    if (!kUsed || bytes < kPage) return false;
    // So much more that one of its addresses is a page's.
    const size_t mapped = bytes + kPage;
    void *memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return false;
    memory_ = {static_cast<std::byte *>(memory), Unmap{mapped}};
    void *aligned = memory;
    size_t space = mapped;
    next_ = static_cast<std::byte *>(std::align(kPage, bytes, aligned, space));
    // Whole pages only: what is left at the end stays in small ones, and costs no more than it has.
    if (madvise(next_, bytes / kPage * kPage, MADV_HUGEPAGE) == 0) return true;
    memory_.reset();
    return false;
}

std::byte *HugePages::take(size_t bytes) {
    std::byte *taken = next_;
    next_ += room(bytes);
    return taken;
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
