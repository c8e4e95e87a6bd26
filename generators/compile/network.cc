#include "network.h"

#include "networks/catalog.h"
#include "networks/shufflenet_v2.h"

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
    try {
        if (options.network == "shufflenet_v2") return make_family(options);
        const int classes = options.classes.value_or(networks::kDefaultClasses);
        return networks::published_network(options.network, options.input, classes, options.outputs).value();
    } catch (const std::invalid_argument &error) {
        // It begins with the member's name, which is the option's.
        throw UsageError(std::string("--") + error.what());
    }
}

}  // namespace shufflenet::compile
