// Networks as a framework computes them: activation, concatenation, slice and shuffle are layers of their own. And the
// same as this library has them.
#pragma once

#include <string>
#include <vector>

#include "networks/graph.h"

namespace shufflenet::bench {

/// Appends layers to a graph as a framework does. Batch normalisation is folded.
class Framework {
  public:
    /// Layers are called `prefix`, a number and what they are.
    Framework(networks::GraphBuilder &builder, std::string prefix) : b_(builder), prefix_(std::move(prefix)) {}

    networks::Tensor conv(const networks::Tensor &in, int out_channels, int kernel, bool relu, int groups = 1,
                          int stride = 1);
    networks::Tensor depthwise(const networks::Tensor &in, int kernel, int stride = 1);
    networks::Tensor relu(const networks::Tensor &in) { return b_.activate(id("relu"), in, networks::kRelu); }
    networks::Tensor relu6(const networks::Tensor &in) { return b_.activate(id("relu6"), in, networks::kRelu6); }
    networks::Tensor add(const networks::Tensor &a, const networks::Tensor &b) { return b_.add(id("add"), a, b); }
    networks::Tensor concat(const std::vector<networks::Tensor> &in);
    networks::Tensor slice(const networks::Tensor &in, int first, int count);
    networks::Tensor shuffle(const networks::Tensor &in, int groups);
    networks::Tensor max_pool(const networks::Tensor &in, int stride = 1);
    /// Leaves out what is beyond the border.
    networks::Tensor average_pool(const networks::Tensor &in);
    networks::Tensor global_pool(const networks::Tensor &in) { return b_.global_pool(id("pool"), in); }
    networks::Tensor linear(const networks::Tensor &in, int out_channels);

  private:
    std::string id(const char *what) { return prefix_ + std::to_string(number_++) + "_" + what; }
    /// The names of the next layer's weights.
    static networks::GraphBuilder::Module module(const std::string &id) { return {id, id + "_norm"}; }

    networks::GraphBuilder &b_;
    std::string prefix_;
    int number_ = 0;
};

/// Units of ShuffleNetV2 in that form; the second one halves the image.
networks::Tensor shufflenet_v2_unit(Framework &f, const networks::Tensor &in);
networks::Tensor shufflenet_v2_down_unit(Framework &f, const networks::Tensor &in, int out_channels);

/// A published network in that form, at the size that it is published for, with 1000 classes.
networks::Graph framework_network(const std::string &name);

/// The same layers without their activations, which are layers then, and copies where a tensor is not all of a layer.
networks::Graph unfused(const networks::Graph &graph);

/// The reverse: activations become part of the layer before, and copies lists of channels.
networks::Graph fused(const networks::Graph &graph);

}  // namespace shufflenet::bench
