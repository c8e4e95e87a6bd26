// From a weight file to what the kernels read: packed weights and offset tables.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "checkpoint.h"
#include "huge_pages.h"
#include "networks/any_network.h"

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
    /// Moves there what it has.
    void move_to(std::byte *memory) {
        if (size_ > 0) std::memcpy(memory, data_, size_ * sizeof(T));
        place(memory, size_);
        memory_.reset();
    }
    T *data() { return data_; }
    const T *data() const { return data_; }
    size_t size() const { return size_; }
    size_t bytes() const { return size_ * sizeof(T); }

  private:
    struct Free {
        void operator()(void *memory) const { std::free(memory); }
    };
    std::unique_ptr<void, Free> memory_;
    T *data_ = nullptr;
    size_t size_ = 0;
};

/// Weights and table of one kernel.
struct KernelWeights {
    AlignedArray<float> weights;
    AlignedArray<int32_t> table;
};

/// One unit: branch 1 only in a downsampling unit.
struct UnitWeights {
    KernelWeights branch1, branch2;
};

/// All of a model's weights. Immutable once made; shared between models.
struct PackedWeights {
    int classes = 0;
    KernelWeights stem;
    std::array<std::vector<UnitWeights>, kStages> stages;
    KernelWeights conv5, fc;
    /// Of a comparison network: one for each step; then of the above there is only fc.
    std::vector<KernelWeights> steps;
    /// Where all of these lie, if there are such pages: weights in the order of a run, then tables.
    HugePages pages;
    /// Where a FeatureView finds each channel: stages 2, 3, 4, conv5.
    std::array<std::vector<int32_t>, kStages + 1> channel_offset;
};

/// Packs a file's weights of `network` for kernels compiled for `input`, in panels of `vec` floats. On an error, those
/// of the file included, `out` is of no use.
Status pack_weights(const Safetensors &file, const std::string &file_name, const AnyNetwork &network, Size input,
                    int vec, PackedWeights *out);

}  // namespace shufflenet::inline SHUFFLENET_ABI
