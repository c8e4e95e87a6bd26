// The numbers of a schedule, as data. Zero means: the schedule derives a default from the machine and the shape.
#pragma once

#include <string>

namespace shufflenet::schedules {

struct Tuning {
    int tile_pixels = 0;        ///< Pixels of a register tile.
    int tile_vectors = 0;       ///< Vectors of output channels of a register tile.
    int tail_pixels = 0;        ///< Pixels of a register tile of the channels that do not fill a vector.
    int order = 0;              ///< How a unit's work is ordered: 1 rows, 2 channels, 3 strips.
    int block_rows = 0;         ///< Output rows of a block, the share of the work that goes to one thread.
    int strip_rows = 0;         ///< Output rows of a strip, whose intermediates exist at one time.
    int depthwise_columns = 0;  ///< Outputs of a depthwise row computed together.
};

/// Reads `kernels.<kernel>` of a tuned file, or `batches.<n>.<kernel>` of the greatest n up to `batch` that has the
/// kernel; an empty path or a kernel that the file does not name gives defaults. Throws std::runtime_error, with the
/// file and the key, on anything malformed.
Tuning read_tuning(const std::string &path, const std::string &kernel, int batch = 1);

}  // namespace shufflenet::schedules
