// Random graphs of everything that a graph can have, and weights for them: for tests of the planner and of the kernels.
#pragma once

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "networks/graph.h"
#include "reference/random_weights.h"

namespace shufflenet::tests {

/// Draws a graph; the same for the same seed.
class RandomGraph {
  public:
    explicit RandomGraph(unsigned seed) : random_(seed) {}

    networks::Graph make(int layers) {
        using networks::GraphBuilder;
        using networks::square;
        const Size input{between(5, 9), between(5, 9)};
        GraphBuilder b("random", input);
        std::vector<networks::Tensor> values = {
            b.convolution("c0", module("c0"), b.image(), between(3, 40), square(3, between(1, 2)), activation())};
        for (int i = 1; i <= layers; ++i) {
            const std::string id = "l" + std::to_string(i);
            values.push_back(step(b, id, values));
        }
        b.output("last", values.back());
        if (between(0, 1) == 1) b.output("early", values[values.size() / 2]);
        return b.take();
    }

  private:
    int between(int least, int most) { return std::uniform_int_distribution<int>(least, most)(random_); }
    static networks::GraphBuilder::Module module(const std::string &id) { return {id, "", true}; }
    networks::Activation activation() {
        const networks::Activation all[] = {networks::kNoActivation, networks::kRelu, networks::kRelu6,
                                            networks::leaky_relu(0.125F), networks::kSigmoid};
        return all[between(0, 4)];
    }
    networks::Resize resize() {
        return {static_cast<networks::Resize::Mode>(between(0, 1)),
                static_cast<networks::Resize::Coordinates>(between(0, 2)),
                static_cast<networks::Resize::Rounding>(between(0, 3))};
    }
    /// One of the latest values, most often the last.
    const networks::Tensor &pick(const std::vector<networks::Tensor> &values) {
        const auto back = static_cast<size_t>(std::geometric_distribution<int>(0.5)(random_));
        return values[values.size() - 1 - std::min(back, values.size() - 1)];
    }
    static int divisor(int count) { return count % 3 == 0 ? 3 : count % 2 == 0 ? 2 : 1; }

    networks::Tensor step(networks::GraphBuilder &b, const std::string &id,
                          const std::vector<networks::Tensor> &values) {
        using networks::GraphBuilder;
        using networks::Tensor;
        const Tensor x = pick(values);
        const int c = x.count();
        switch (between(0, 20)) {
        case 0:
        case 1:
            return b.pointwise(id, module(id), x, between(1, 50), activation());
        case 2:
            return b.depthwise(id, module(id), x, networks::square(3), activation());
        case 3: {
            const Tensor wide = b.pointwise(id + "a", module(id + "a"), x, between(1, 40), activation());
            const Tensor deep = b.depthwise(id + "b", module(id + "b"), wide, networks::square(3), activation());
            return b.pointwise(id, module(id), deep, between(1, 40), activation());
        }
        case 4:
            return b.pointwise(id, module(id),
                               b.depthwise(id + "a", module(id + "a"), x, networks::square(between(1, 2) * 2 + 1)),
                               between(1, 50), activation());
        case 5: {
            const int g = divisor(c) < c ? divisor(c) : 1;
            return b.pointwise(id, module(id), x, g * between(1, 20), activation(), g);
        }
        case 6:
            return b.max_pool(id, x, networks::square(3));
        case 7:
            return b.average_pool(id, x, networks::square(3), between(0, 1) == 1);
        case 8:
        case 9: {
            const Tensor &y = pick(values);
            return y.size == x.size && c + y.count() < 160 ? GraphBuilder::concat({x, y}) : x;
        }
        case 10: {
            const int first = between(0, c - 1);
            return GraphBuilder::slice(x, first, between(1, c - first));
        }
        case 11:
        case 12:
            return GraphBuilder::shuffle(x, divisor(c));
        case 13: {
            std::vector<int> order(c);
            for (int i = 0; i < c; ++i) order[i] = i;
            std::shuffle(order.begin(), order.end(), random_);
            return GraphBuilder::permute(x, order);
        }
        case 14:
            return b.activate(id, x, activation());
        case 15:
            return b.copy(id, x);
        case 18:
            return x.size.height > 40 ? x : b.resize(id, x, {2 * x.size.height, 2 * x.size.width}, resize());
        case 19:
            return b.resize(id, x, {(x.size.height + 1) / 2, (x.size.width + 1) / 2}, resize());
        case 20:
            return b.softmax(id, x);
        default: {
            for (const Tensor &y : values) {
                if (y.count() == c && y.size == x.size && !(y == x)) return b.add(id, x, y, activation());
            }
            const Tensor deep = b.depthwise(id + "b", module(id + "b"), x, networks::square(3));
            return b.add(id, b.pointwise(id + "c", module(id + "c"), deep, c, networks::kNoActivation), x,
                         activation());
        }
        }
    }

    std::mt19937 random_;
};

/// Weights of a size that keeps sums of any length near one.
inline std::vector<reference::LayerWeights> weights_of(const networks::Graph &graph, uint64_t seed) {
    std::vector<reference::LayerWeights> all;
    for (const networks::Layer &layer : graph.layers) {
        reference::LayerWeights &weights = all.emplace_back();
        const reference::Stream stream(seed, layer.id);
        const auto elements = static_cast<size_t>(layer.weight_elements());
        for (size_t i = 0; i < elements; ++i) {
            weights.weights.push_back(stream.normal(i, double(layer.out_channels) / double(elements)));
        }
        for (int i = 0; i < (elements > 0 ? layer.out_channels : 0); ++i) {
            weights.bias.push_back(stream.uniform(elements + size_t(i)) - 0.5);
        }
    }
    return all;
}

}  // namespace shufflenet::tests
