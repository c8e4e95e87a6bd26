// Memory that kernels read and write.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>

#include "huge_pages.h"
#include "networks/panels.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Memory aligned to a cache line.
template <typename T>
class AlignedArray {
  public:
    /// Zero-filled; false: out of memory.
    [[nodiscard]] bool allocate(size_t size) {
        constexpr size_t line = sizeof(float) * kLineFloats;
        const size_t bytes = HugePages::room(size * sizeof(T));
        // calloc() does not touch pages that come zero-filled from the system: what is never used costs nothing.
        memory_.reset(std::calloc(bytes + line, 1));
        if (memory_ == nullptr) return false;
        void *aligned = memory_.get();
        size_t space = bytes + line;
        data_ = static_cast<T *>(std::align(line, bytes, aligned, space));
        size_ = size;
        return true;
    }
    /// Memory of somebody else, zero-filled and aligned.
    void place(std::byte *memory, size_t size) {
        data_ = reinterpret_cast<T *>(memory);
        size_ = size;
    }
    T *data() { return data_; }
    const T *data() const { return data_; }
    size_t size() const { return size_; }

  private:
    struct Free {
        void operator()(void *memory) const { std::free(memory); }
    };
    std::unique_ptr<void, Free> memory_;
    T *data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace shufflenet::inline SHUFFLENET_ABI
