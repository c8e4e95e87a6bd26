// Memory whose neighbours are pages without access: who reads or writes past it is stopped there.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <new>
#include <span>
#include <vector>

namespace shufflenet {

/// Which end of a piece lies against the forbidden page. The other one is within a page of it.
enum class Edge { kBegin, kEnd };

/// Pieces of memory, in order, each between two such pages.
class GuardedMemory {
  public:
    /// `alignment`: of each piece's begin. At Edge::kEnd a size that is no multiple of it leaves a gap before the page.
    GuardedMemory(std::span<const size_t> sizes, Edge edge, size_t alignment) {
        const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
        const auto in_pages = [page](size_t bytes) { return (bytes + page - 1) / page * page; };
        mapped_ = page;
        for (const size_t size : sizes) mapped_ += in_pages(size) + page;
        void *memory = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        begin_ = static_cast<std::byte *>(memory);
        size_t at = page;
        for (const size_t size : sizes) {
            const size_t room = in_pages(size);
            if (room > 0 && mprotect(begin_ + at, room, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
            pieces_.push_back(begin_ + at + (edge == Edge::kEnd ? (room - size) / alignment * alignment : 0));
            at += room + page;
        }
    }
    GuardedMemory(size_t size, Edge edge, size_t alignment) : GuardedMemory(std::span(&size, 1), edge, alignment) {}
    GuardedMemory(const GuardedMemory &) = delete;
    GuardedMemory &operator=(const GuardedMemory &) = delete;
    ~GuardedMemory() { munmap(begin_, mapped_); }

    std::byte *piece(size_t i = 0) const { return pieces_[i]; }

  private:
    std::byte *begin_ = nullptr;
    size_t mapped_ = 0;
    std::vector<std::byte *> pieces_;
};

/// `size` numbers, flush with a forbidden page.
template <typename T>
class GuardedArray {
  public:
    GuardedArray(size_t size, Edge edge) : memory_(size * sizeof(T), edge, alignof(T)), size_(size) {}
    std::span<T> span() const { return {reinterpret_cast<T *>(memory_.piece()), size_}; }

  private:
    GuardedMemory memory_;
    size_t size_;
};

}  // namespace shufflenet
