// ONNX files: what is accepted is a network with weights.
#include "importers/onnx_file.h"

#include "check.h"
#include "checkpoint.h"
#include "importers/graph_weights.h"
#include "importers/lower.h"
#include "networks/catalog.h"

using namespace shufflenet;

namespace {

void read(std::span<const std::byte> file, const networks::Graph *network) {
    OnnxNetwork onnx;
    if (!fuzz::accepted(read_onnx(file, fuzz::kName, network, {32, 32}, &onnx))) return;
    fuzz::require(network == nullptr || onnx.graph.name == network->name, "it is the network that it must be");
    Safetensors tensors;
    Checkpoint checkpoint;
    fuzz::require(Safetensors::parse(onnx.safetensors, fuzz::kName, &tensors).ok(), "its weights are a weight file");
    const GraphWeights weights(onnx.graph);
    if (!fuzz::accepted(read_checkpoint(tensors, fuzz::kName, weights.needed(), &checkpoint))) return;
    fuzz::require(checkpoint.classes == onnx.classes, "and have as many classes");
    FloatModel model;
    fuzz::require(with_outputs(file, fuzz::kName, onnx, &model).ok(), "and it can be run elsewhere");
}

/// Operator by operator.
void import(std::span<const std::byte> file) {
    ImportedNetwork network;
    if (!fuzz::accepted(import_onnx(file, fuzz::kName, Size{32, 32}, &network))) return;
    Safetensors tensors;
    StateDict dict;
    fuzz::require(Safetensors::parse(network.safetensors, fuzz::kName, &tensors).ok(), "its weights are a weight file");
    const GraphWeights weights(network.graph);
    fuzz::require(check_state_dict(tensors, fuzz::kName, weights.needed(), &dict).ok(), "and the graph's");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    // The seeds are of this one.
    static const networks::Graph network = *networks::published_network("test_tiny", {32, 32}, 1);
    const auto file = std::as_bytes(std::span(data, size));
    read(file, &network);
    read(file, nullptr);
    import(file);
    return 0;
}
