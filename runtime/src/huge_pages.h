// Memory in pages of 2 MiB.
#pragma once

#include <cstddef>
#include <memory>

#include "shufflenet/version.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// One piece of memory, taken in parts. A run goes through all weights once, and with pages of 4 KiB a core looks up an
/// address for every 64 lines that it reads; the lookups, in a virtual machine two deep, come one after another.
class HugePages {
  public:
    /// Maps zero-filled memory; false: there is none, or it is too little for such a page.
    [[nodiscard]] bool map(size_t bytes);
    /// The next `bytes` of it, from the beginning of a cache line on.
    std::byte *take(size_t bytes);
    /// What take() takes.
    static size_t room(size_t bytes);

  private:
    struct Unmap {
        size_t bytes;
        void operator()(std::byte *memory) const;
    };
    std::unique_ptr<std::byte, Unmap> memory_;
    std::byte *next_ = nullptr;
};

}  // namespace shufflenet::inline SHUFFLENET_ABI
