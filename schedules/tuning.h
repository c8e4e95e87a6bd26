// The numbers of a schedule, as data. Zero means: the schedule derives a default from the machine and the shape.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace shufflenet::schedules {

struct Tuning {
    int tile_pixels = 0;        ///< Pixels of a register tile.
    int tile_vectors = 0;       ///< Vectors of output channels of a register tile.
    int tail_pixels = 0;        ///< Pixels of a register tile of the channels that do not fill a vector.
    int order = 0;              ///< How a unit's work is ordered: 1 rows, 2 channels, 3 strips.
    int block_rows = 0;         ///< Output rows of a block, the share of the work that goes to one thread.
    int strip_rows = 0;         ///< Output rows of a strip, whose intermediates exist at one time.
    int depthwise_columns = 0;  ///< Outputs of a depthwise row computed together.

    bool operator==(const Tuning &) const = default;
};

/// The numbers of the kernel of that key (networks/kernel.h) in a tuned file's text: `kernels.<key>`, or
/// `batches.<n>.<key>` of the greatest n up to `batch` that has the kernel. A kernel that the file does not have gives
/// defaults. `name` is what messages call the file. Throws std::runtime_error, with the file and the key, on anything
/// malformed.
Tuning parse_tuning(std::string_view json, const std::string &name, const std::string &key, int batch = 1);

/// The same from a file; an empty path gives defaults.
Tuning read_tuning(const std::string &path, const std::string &key, int batch = 1);

/// The numbers of images that it has kernels of their own for, in order: of 1, and the keys of `batches`.
std::vector<int> tuned_batches(std::string_view json, const std::string &name);

/// The target that a tuned file says that it is for.
std::string tuning_target(std::string_view json, const std::string &name);

}  // namespace shufflenet::schedules
