// ShuffleNetV2 out of ONNX files.
#pragma once

#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "networks/network.h"
#include "runtime/src/file_kind.h"
#include "shufflenet/model.h"
#include "shufflenet/status.h"

namespace shufflenet {

/// How a file numbers the outputs of its branches; the numbers that come out are always torchvision's.
enum class ChannelOrder { kTorchvision, kMegvii, kOther };

/// A tensor of a graph that holds what a Model calls a feature. Channel i of it is the feature's channel canonical[i].
struct OnnxFeature {
    Feature feature;
    std::string tensor;
    std::vector<int> canonical;
};

/// What an ONNX file holds.
struct OnnxNetwork {
    const Network *network = nullptr;
    int classes = 0;
    std::optional<Size> size;  ///< Of the graph's input; nothing: any, or some.
    int64_t batch = 0;         ///< Of the graph's input; 0: any.
    bool half = false;         ///< All weights are FLOAT16.
    bool folded = false;       ///< Batch normalisation is part of the convolutions, at least of some.
    ChannelOrder order = ChannelOrder::kTorchvision;
    std::string input, logits;
    std::vector<OnnxFeature> features;
    std::vector<std::byte> safetensors;  ///< The weights: torchvision's names and channel order, F32.
};

/// What read_onnx() takes; protocol buffers are at most 2 GiB.
inline constexpr ExpectedFile kOnnxFile{"an ONNX file", std::numeric_limits<int>::max(), {FileKind::kOnnx}};

/// Reads a ShuffleNetV2 of any width: graphs as torchvision's and Megvii's models export (Megvii's x0.5 only: its wider
/// networks split stage 2 otherwise), with batch normalisation folded or not, simplified or not; operator sets 9 to 22;
/// weights FLOAT or FLOAT16. The graph is run on names of channels (runtime/import/trace.h), so shapes may be constants
/// or computed. How folded weights are stored, and why channels may be renumbered: runtime/import/canonical.h.
///
/// `name` is what messages call the file. `network`: the one it must be of; nullptr: found by its shapes. `assumed`:
/// the input's size where the graph leaves it open. Whatever the bytes, the answer is a network or a kBadInput that
/// says at which node the graph differs, and how; on an error `out` is unchanged.
Status read_onnx(std::span<const std::byte> file, const std::string &name, const Network *network, Size assumed,
                 OnnxNetwork *out);

/// A model to be run elsewhere: whatever the file's types, its input and outputs are float.
struct FloatModel {
    std::vector<std::byte> file;
    std::string input;                 ///< (N, 3, H, W)
    std::vector<std::string> outputs;  ///< Logits, (N, classes), then OnnxNetwork::features.
};

/// The model of a file, with the tensors of `onnx.features` as outputs too. `onnx` is what read_onnx() made of `file`.
Status with_features(std::span<const std::byte> file, const std::string &name, const OnnxNetwork &onnx,
                     FloatModel *out);

}  // namespace shufflenet
