// What belongs to weights but is not weights: how images become input, and what the classes are called.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "file_kind.h"
#include "shufflenet/image.h"
#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI {

struct Metadata {
    std::string network;
    int height = 0, width = 0;
    Preprocess preprocess;
    std::vector<std::string> labels;  ///< One per class; empty: unknown.
};

/// A JSON object with the keys network, input [height, width], resize, mean [3], std [3] and, optional, labels;
/// other keys are ignored. Mean and std are of values from 0 to 1. UTF-8 with or without a byte order mark. `name` is
/// what error messages call it. On error `out` is unchanged.
Status parse_metadata(std::string_view text, const std::string &name, Metadata *out);

/// The same from a file.
Status read_metadata(const std::string &path, Metadata *out);

/// torchvision's evaluation transform, scaled to the input size; no labels. `resize`: of a short side that 224 pixels
/// are cut from.
Metadata default_metadata(const std::string &network, int height, int width, int resize);

/// A text file with one label a line: UTF-8 with or without a byte order mark, LF or CRLF; trailing empty lines are
/// ignored. On error `labels` is unchanged.
Status read_labels(const std::string &path, std::vector<std::string> *labels);

/// The same from memory; `name` is what error messages call it.
Status parse_labels(std::string_view text, const std::string &name, std::vector<std::string> *labels);

}  // namespace shufflenet::inline SHUFFLENET_ABI
