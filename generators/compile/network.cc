#include "network.h"

#include <stdexcept>
#include <utility>
#include <vector>

#include "networks/catalog.h"
#include "networks/shufflenet_v2.h"
#include "runtime/src/file.h"

namespace shufflenet::compile {

namespace {

networks::Graph make_family(const Options &options) {
    networks::ShuffleNetV2 network;
    network.units = options.units;
    network.channels = options.channels;
    network.conv5 = options.conv5.value_or(0);
    network.classes = options.classes.value_or(0);
    network.activation = options.activation.value_or(network.activation);
    network.pool_stride = options.pool_stride.value_or(network.pool_stride);
    network.outputs = options.outputs;
    return networks::shufflenet_v2(network, options.input);
}

}  // namespace

networks::Graph make_graph(const Options &options) {
    if (options.imported) return options.imported->graph;
    try {
        if (options.network == "shufflenet_v2") return make_family(options);
        const int classes = options.classes.value_or(networks::kDefaultClasses);
        return networks::published_network(options.network, options.input, classes, options.outputs).value();
    } catch (const std::invalid_argument &error) {
        // It begins with the member's name, which is the option's.
        throw UsageError(std::string("--") + error.what());
    }
}

void import_network(Options *options) {
    if (options->onnx.empty()) return;
    const auto check = [](const Status &status) {
        if (!status.ok()) throw std::runtime_error("--onnx: " + std::string(status.message()));
    };
    std::vector<std::byte> file;
    check(read_file(options->onnx, &file));
    auto made = std::make_shared<ImportedNetwork>();
    const std::optional<Size> size = options->has_input ? std::optional(options->input) : std::nullopt;
    check(import_onnx(file, options->onnx, size, made.get()));
    options->imported = std::move(made);
}

}  // namespace shufflenet::compile
