// ShuffleNetV2 out of ONNX files.
#pragma once

#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "networks/graph.h"
#include "runtime/src/file_kind.h"
#include "shufflenet/status.h"

namespace shufflenet {

/// How a file numbers the outputs of its branches; the numbers that come out are always torchvision's.
enum class ChannelOrder { kTorchvision, kMegvii, kOther };

/// A tensor of a file that holds an output of the network. Channel i of it is the output's channel order[i].
struct OnnxOutput {
    std::string name;  ///< The network's.
    std::string tensor;
    std::vector<int> order;
};

/// What an ONNX file holds.
struct OnnxNetwork {
    networks::Graph graph;     ///< The network, with as many classes as the file's.
    int classes = 0;           ///< 0: nothing of the kind.
    std::optional<Size> size;  ///< Of the file's input; nothing: any, or some.
    int64_t batch = 0;         ///< Of the file's input; 0: any.
    bool half = false;         ///< All weights are FLOAT16.
    bool folded = false;       ///< Batch normalisation is part of the convolutions, at least of some.
    ChannelOrder order = ChannelOrder::kTorchvision;
    std::string input;
    std::vector<OnnxOutput> outputs;     ///< Of the network's, those that the file has, in order.
    std::vector<std::byte> safetensors;  ///< The weights: torchvision's names and channel order, F32.
};

/// What read_onnx() takes; protocol buffers are at most 2 GiB.
inline constexpr ExpectedFile kOnnxFile{"an ONNX file", std::numeric_limits<int>::max(), {FileKind::kOnnx}};

/// Reads a ShuffleNetV2: graphs as torchvision's and Megvii's models export (of Megvii's published ones x0.5 only: the
/// wider ones split stage 2 otherwise), with batch normalisation folded or not, simplified or not; operator sets 7 to
/// 25; weights FLOAT or FLOAT16. The file is run on names of channels (importers/trace.h), so shapes may be constants
/// or computed. How folded weights are stored: importers/weights.h; why channels may be renumbered:
/// importers/channel_map.h.
///
/// `name` is what messages call the file. `network`: the one it must be, but for the number of classes, of any input
/// size; nullptr: the ShuffleNetV2 that its convolutions are, or the published one that they resemble most. `assumed`:
/// the input's size where the file leaves it open. Whatever the bytes, the answer is a network or a kBadInput that says
/// at which node the file differs, and how; on an error `out` is unchanged.
Status read_onnx(std::span<const std::byte> file, const std::string &name, const networks::Graph *network, Size assumed,
                 OnnxNetwork *out);

/// A model to be run elsewhere: whatever the file's types, its input and outputs are float.
struct FloatModel {
    std::vector<std::byte> file;
    std::string input;                 ///< (N, 3, H, W)
    std::vector<std::string> outputs;  ///< OnnxNetwork::outputs.
};

/// The model of a file with the tensors of `onnx.outputs` as its outputs. `onnx` is what read_onnx() made of `file`.
Status with_outputs(std::span<const std::byte> file, const std::string &name, const OnnxNetwork &onnx, FloatModel *out);

}  // namespace shufflenet
