// What belongs to weights but is not weights: how images become input, and what the classes are called.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "networks/any_network.h"
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
/// other keys are ignored. `name` is what error messages call it. On error `out` is unchanged.
Status parse_metadata(std::string_view text, const std::string &name, Metadata *out);

/// torchvision's evaluation transform for the network, scaled to the input size; no labels.
Metadata default_metadata(const AnyNetwork &network, Size input);

/// A text file with one label a line: UTF-8 with or without a byte order mark, LF or CRLF; trailing empty lines are
/// ignored. On error `labels` is unchanged.
Status read_labels(const std::string &path, std::vector<std::string> *labels);

/// The same from memory; `name` is what error messages call it.
Status parse_labels(std::string_view text, const std::string &name, std::vector<std::string> *labels);

}  // namespace shufflenet
