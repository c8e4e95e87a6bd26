#include "model_proto.h"

#include "trace.h"

namespace shufflenet::imports {

onnx::ModelProto parse_model(std::span<const std::byte> file) {
    onnx::ModelProto model;
    if (file.size() > kOnnxFile.most) {
        throw Refusal("expected an ONNX file of less than 2 GiB, found " + std::to_string(file.size()) + " bytes");
    }
    if (!model.ParseFromArray(file.data(), static_cast<int>(file.size()))) {
        throw Refusal("not an ONNX file, or truncated: its protocol buffer ends early or makes no sense");
    }
    if (!model.has_graph() || model.graph().node_size() == 0) throw Refusal("not an ONNX file: no graph in it");
    return model;
}

int64_t operator_set(const onnx::ModelProto &model) {
    int64_t version = 0;
    for (const auto &set : model.opset_import()) {
        if (set.domain().empty() || set.domain() == "ai.onnx") version = set.version();
    }
    if (version < kOldestOpset || version > kNewestOpset) {
        throw Refusal("operator set " + std::to_string(version) + ", expected " + std::to_string(kOldestOpset) +
                      " to " + std::to_string(kNewestOpset));
    }
    return version;
}

}  // namespace shufflenet::imports
