// From a weight file to what the kernels read, by the recipe of a program. The compiler packs with this what it embeds.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "aligned_array.h"
#include "checkpoint.h"
#include "huge_pages.h"
#include "shufflenet/descriptor.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// All of a model's weights. Immutable once made; shared between models.
struct PackedWeights {
    int classes = 0;  ///< As the file has them, where it decides their number; otherwise 0.
    /// The kernels' blobs in the order of a run, without gaps, so that a kernel that prefetches past its own finds the
    /// next one's. A last linear layer's is the last.
    std::span<const float> floats;

    /// Where they lie: huge pages if there are such, else an array; neither if they are somebody else's.
    HugePages pages;
    AlignedArray<float> array;
};

/// Takes memory for packed weights, zero-filled; null: out of memory.
[[nodiscard]] float *allocate(size_t floats, PackedWeights *out);

/// Packs a file's weights of the network that messages call `network`. On an error, those of the file included, `out`
/// is of no use.
Status pack_weights(const Safetensors &file, const std::string &file_name, std::string_view network,
                    const shufflenet_program &program, PackedWeights *out);

/// Packed weights of one program as another one of the same network has them. Throws std::bad_alloc.
void repack_weights(const shufflenet_program &from, const float *packed, const shufflenet_program &to,
                    PackedWeights *out);

}  // namespace shufflenet::inline SHUFFLENET_ABI
