// ONNX files: what is accepted is a network with weights.
#include "runtime/import/onnx_file.h"

#include "check.h"
#include "checkpoint.h"

using namespace shufflenet;

namespace {

void read(std::span<const std::byte> file, const Network *network) {
    OnnxNetwork onnx;
    if (!fuzz::accepted(read_onnx(file, fuzz::kName, network, {32, 32}, &onnx))) return;
    fuzz::require(network == nullptr || onnx.network == network, "it is the network that it must be");
    Safetensors tensors;
    Checkpoint checkpoint;
    fuzz::require(Safetensors::parse(onnx.safetensors, fuzz::kName, &tensors).ok(), "its weights are a weight file");
    if (!fuzz::accepted(read_checkpoint(tensors, fuzz::kName, *onnx.network, &checkpoint))) return;
    fuzz::require(checkpoint.classes == onnx.classes, "and have as many classes");
    FloatModel model;
    fuzz::require(with_features(file, fuzz::kName, onnx, &model).ok(), "and it can be run elsewhere");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const auto file = std::as_bytes(std::span(data, size));
    read(file, find_network("test_tiny"));  // The seeds are of this one.
    read(file, nullptr);
    return 0;
}
