#include "framework.h"

#include <map>
#include <stdexcept>

#include "networks/catalog.h"

namespace shufflenet::bench {

using networks::Channel;
using networks::Graph;
using networks::GraphBuilder;
using networks::Layer;
using networks::LayerKind;
using networks::Tensor;

Tensor Framework::conv(const Tensor &in, int out_channels, int kernel, bool relu, int groups, int stride) {
    const std::string name = id("conv");
    return b_.convolution(name, module(name), in, out_channels, networks::square(kernel, stride),
                          relu ? networks::kRelu : networks::kNoActivation, groups);
}

Tensor Framework::depthwise(const Tensor &in, int kernel, int stride) {
    const std::string name = id("dw");
    return b_.depthwise(name, module(name), in, networks::square(kernel, stride));
}

Tensor Framework::concat(const std::vector<Tensor> &in) { return b_.copy(id("concat"), GraphBuilder::concat(in)); }

Tensor Framework::slice(const Tensor &in, int first, int count) {
    return b_.copy(id("slice"), GraphBuilder::slice(in, first, count));
}

Tensor Framework::shuffle(const Tensor &in, int groups) {
    return b_.copy(id("shuffle"), GraphBuilder::shuffle(in, groups));
}

Tensor Framework::max_pool(const Tensor &in, int stride) {
    return b_.max_pool(id("pool"), in, networks::square(3, stride));
}

Tensor Framework::average_pool(const Tensor &in) { return b_.average_pool(id("pool"), in, networks::square(3), false); }

Tensor Framework::linear(const Tensor &in, int out_channels) {
    const std::string name = id("linear");
    return b_.linear(name, {name, ""}, in, out_channels);
}

Tensor shufflenet_v2_unit(Framework &f, const Tensor &in) {
    const int half = in.count() / 2;
    const Tensor identity = f.slice(in, 0, half);
    const Tensor wide = f.relu(f.conv(f.slice(in, half, half), half, 1, false));
    const Tensor branch = f.relu(f.conv(f.depthwise(wide, 3), half, 1, false));
    return f.shuffle(f.concat({identity, branch}), 2);
}

Tensor shufflenet_v2_down_unit(Framework &f, const Tensor &in, int out_channels) {
    const int half = out_channels / 2;
    const Tensor one = f.relu(f.conv(f.depthwise(in, 3, 2), half, 1, false));
    const Tensor wide = f.relu(f.conv(in, half, 1, false));
    const Tensor two = f.relu(f.conv(f.depthwise(wide, 3, 2), half, 1, false));
    return f.shuffle(f.concat({one, two}), 2);
}

namespace {

/// Channel lists do not say which of their permutations a framework computes: this is written down.
Graph shufflenet_v2_x1_0() {
    GraphBuilder b("shufflenet_v2_x1_0", {224, 224});
    Framework f(b, "l");
    Tensor x = f.max_pool(f.relu(f.conv(b.image(), 24, 3, false, 1, 2)), 2);
    int channels = 116;
    for (const int units : {4, 8, 4}) {
        x = shufflenet_v2_down_unit(f, x, channels);
        for (int i = 1; i < units; ++i) x = shufflenet_v2_unit(f, x);
        channels *= 2;
    }
    const Tensor pooled = f.global_pool(f.relu(f.conv(x, 1024, 1, false)));
    b.output("logits", f.linear(pooled, networks::kDefaultClasses));
    return b.take();
}

/// Makes a graph layer by layer from another one, whose tensors it knows by the new channels.
class Rewriter {
  public:
    explicit Rewriter(const Graph &from) : from_(from) {
        made_.name = from.name;
        made_.input = from.input;
        made_.image_channels = from.image_channels;
    }

    Tensor mapped(const Tensor &tensor) const {
        Tensor result = tensor;
        for (Channel &channel : result.channels) {
            if (channel.layer != networks::kImage) channel = now_.at(channel.layer).channels.at(channel.index);
        }
        return result;
    }
    Tensor append(Layer layer) {
        made_.layers.push_back(std::move(layer));
        return made_.tensor(static_cast<int>(made_.layers.size()) - 1);
    }
    /// The layer with its operands mapped.
    Layer with_mapped(const Layer &layer) const {
        Layer result = layer;
        for (Tensor &tensor : result.in) tensor = mapped(tensor);
        return result;
    }
    /// What the next layer of the old graph computes.
    void set(const Tensor &now) { now_.push_back(now); }
    /// The new graph's layer, all of which a tensor is; or nothing.
    Layer *whole(const Tensor &tensor) {
        const int layer = tensor.channels.front().layer;
        return layer != networks::kImage && tensor == made_.tensor(layer) ? &made_.layers[layer] : nullptr;
    }

    Graph take() {
        for (const networks::Output &output : from_.outputs) {
            made_.outputs.push_back({output.name, mapped(output.tensor)});
        }
        check(made_);
        remove_unread(&made_);
        return std::move(made_);
    }

  private:
    const Graph &from_;
    Graph made_;
    std::vector<Tensor> now_;
};

}  // namespace

Graph unfused(const Graph &graph) {
    Rewriter r(graph);
    std::map<std::vector<Channel>, Tensor> copies;
    for (const Layer &old : graph.layers) {
        Layer layer = r.with_mapped(old);
        for (Tensor &in : layer.in) {
            if (r.whole(in) != nullptr || in.channels.front().layer == networks::kImage) continue;
            const auto [copy, fresh] = copies.try_emplace(in.channels);
            if (fresh) {
                Layer made{.kind = LayerKind::kCopy, .id = old.id + "_copy", .in = {in}};
                made.out_channels = in.count();
                made.out = in.size;
                copy->second = r.append(made);
            }
            in = copy->second;
        }
        const networks::Activation activation = layer.activation;
        layer.activation = networks::kNoActivation;
        Tensor now = r.append(layer);
        if (activation != networks::kNoActivation) {
            Layer made{.kind = LayerKind::kActivation, .id = old.id + "_act", .in = {now}};
            made.out_channels = now.count();
            made.out = now.size;
            made.activation = activation;
            now = r.append(made);
        }
        r.set(now);
    }
    return r.take();
}

namespace {

/// How many layers, and outputs, read any of each layer's channels.
std::vector<int> count_readers(const Graph &graph) {
    std::vector<int> readers(graph.layers.size());
    const auto count = [&](const Tensor &tensor) {
        int last = networks::kImage;
        for (const Channel &channel : tensor.channels) {
            if (channel.layer != networks::kImage && channel.layer != last) ++readers[channel.layer];
            last = channel.layer;
        }
    };
    for (const Layer &layer : graph.layers) {
        for (const Tensor &in : layer.in) count(in);
    }
    for (const networks::Output &output : graph.outputs) count(output.tensor);
    return readers;
}

}  // namespace

Graph fused(const Graph &graph) {
    Rewriter r(graph);
    const std::vector<int> readers = count_readers(graph);
    for (const Layer &old : graph.layers) {
        Layer layer = r.with_mapped(old);
        if (layer.kind == LayerKind::kCopy) {
            r.set(layer.in[0]);
            continue;
        }
        Layer *before = layer.kind == LayerKind::kActivation ? r.whole(layer.in[0]) : nullptr;
        const bool alone = before != nullptr && readers[old.in[0].channels[0].layer] == 1;
        const bool can = alone && (before->kind == LayerKind::kConvolution || before->kind == LayerKind::kAdd) &&
                         before->activation == networks::kNoActivation;
        if (can) before->activation = layer.activation;
        r.set(can ? layer.in[0] : r.append(layer));
    }
    return r.take();
}

Graph framework_network(const std::string &name) {
    const networks::PublishedNetwork &row = *networks::find_published(name);
    const Graph published = row.make({row.crop, row.crop}, networks::kDefaultClasses, {});
    Graph graph = name == "shufflenet_v2_x1_0" ? shufflenet_v2_x1_0() : unfused(published);
    graph.name = name;
    if (total_cost(graph).flops != total_cost(published).flops) {
        throw std::logic_error(name + ": another network than published");
    }
    return graph;
}

}  // namespace shufflenet::bench
