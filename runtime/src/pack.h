// From a checkpoint to what the kernels read: packed weights and offset tables.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "checkpoint.h"
#include "networks/layout.h"

namespace shufflenet {

/// Memory aligned to a cache line.
template <typename T>
class AlignedArray {
  public:
    /// Zero-filled; false: out of memory.
    [[nodiscard]] bool allocate(size_t size) {
        const size_t bytes = (size * sizeof(T) + 63) / 64 * 64;
        data_.reset(static_cast<T *>(std::aligned_alloc(64, bytes == 0 ? 64 : bytes)));
        if (data_ == nullptr) return false;
        size_ = size;
        std::fill_n(data_.get(), size, T{});
        return true;
    }
    T *data() { return data_.get(); }
    const T *data() const { return data_.get(); }
    size_t size() const { return size_; }

  private:
    struct Free {
        void operator()(T *memory) const { std::free(memory); }
    };
    std::unique_ptr<T, Free> data_;
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
    /// Where a FeatureView finds each channel: stages 2, 3, 4, conv5.
    std::array<std::vector<int32_t>, kStages + 1> channel_offset;
};

/// Packs a checkpoint of `network` for kernels compiled for `input`, in panels of `vec` floats.
Status pack_weights(const Checkpoint &checkpoint, const Network &network, Size input, int vec, PackedWeights *out);

}  // namespace shufflenet
