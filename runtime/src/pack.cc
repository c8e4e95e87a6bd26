#include "pack.h"

#include <algorithm>

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

/// The next layer. `stored[co]`: lane of output channel co. `order[i]`: the input channel that is summed i-th.
void pack_pointwise(FoldingReader &layers, const PointwiseLayout &at, const std::vector<int> &stored,
                    const std::vector<int> &order, float *blob) {
    layers.next();
    for (size_t co = 0; co < stored.size(); ++co) {
        blob[at.bias + stored[co]] = static_cast<float>(layers.bias()[co]);
        const std::span<const float> weights = layers.weights(static_cast<int>(co));
        const double scale = layers.scale(static_cast<int>(co));
        for (int i = 0; i < at.k; ++i) {
            blob[at.weight_index(stored[co], i)] = static_cast<float>(weights[order[i]] * scale);
        }
    }
}

/// The next layer. `stored[co]`: lane of channel co.
void pack_window(FoldingReader &layers, const WindowLayout &at, const std::vector<int> &stored, float *blob) {
    layers.next();
    for (size_t co = 0; co < stored.size(); ++co) {
        blob[at.bias + stored[co]] = static_cast<float>(layers.bias()[co]);
        const std::span<const float> weights = layers.weights(static_cast<int>(co));
        const double scale = layers.scale(static_cast<int>(co));
        for (int tap = 0; tap < at.taps; ++tap) {
            blob[at.weight_index(stored[co], tap)] = static_cast<float>(weights[tap] * scale);
        }
    }
}

std::vector<int> identity(int size) {
    std::vector<int> order(size);
    for (int i = 0; i < size; ++i) order[i] = i;
    return order;
}

/// Fills a table with the offset of each channel, in the order in which they are summed.
void fill_offsets(const StageInput &in, int32_t *table) {
    for (const int channel : in.order()) *table++ = in.block.offset(in.slots[channel]);
}

bool allocate(KernelWeights &kernel, int weights, int table) {
    return kernel.weights.allocate(weights) && kernel.table.allocate(table);
}

/// A kernel that reads `in` through its table: branch 2 of any unit.
bool pack_branch2(FoldingReader &layers, const StageInput &in, const std::vector<int> &stored, KernelWeights &kernel) {
    const int c = static_cast<int>(stored.size());
    const Branch2Layout at = branch2_layout(static_cast<int>(in.slots.size()), c, in.block.vec);
    if (!allocate(kernel, at.size(), at.pw1.k)) return false;
    fill_offsets(in, kernel.table.data());
    float *blob = kernel.weights.data();
    pack_pointwise(layers, at.pw1, identity(c), in.order(), blob);
    pack_window(layers, at.dw, identity(c), blob);
    pack_pointwise(layers, at.pw2, stored, identity(c), blob);
    return true;
}

bool pack_branch1(FoldingReader &layers, const StageInput &in, const std::vector<int> &stored, KernelWeights &kernel) {
    const int vec = in.block.vec;
    const auto cin = static_cast<int>(in.slots.size());
    const std::vector<Slot> vectors = live_vectors(in.slots, vec);
    const Branch1Layout at =
        branch1_layout(static_cast<int>(vectors.size()), cin, static_cast<int>(stored.size()), vec);
    if (!allocate(kernel, at.size(), at.table_size())) return false;
    int32_t *table = kernel.table.data();
    for (const Slot &first : vectors) *table++ = in.block.offset(first);

    std::vector<int> lane(cin);
    for (int channel = 0; channel < cin; ++channel) {
        const Slot s = in.slots[channel];
        const auto vector = std::find(vectors.begin(), vectors.end(), Slot{s.block, s.index / vec * vec});
        lane[channel] = static_cast<int>(vector - vectors.begin()) * vec + s.index % vec;
    }
    const std::vector<int> order = in.order();
    for (const int channel : order) *table++ = lane[channel];
    float *blob = kernel.weights.data();
    pack_window(layers, at.dw, lane, blob);
    pack_pointwise(layers, at.pw, stored, order, blob);
    return true;
}

bool pack_stage(FoldingReader &layers, const Network &network, Size input, int number, int vec, PackedWeights *out) {
    const StageShape shape = stage_shape(network, input, number);
    const StagePlan plan = make_stage_plan(shape.branch_channels, shape.units);
    const BlockLayout block = stage_block(shape, vec);
    const int fours = basic_fours(plan);
    std::vector<UnitWeights> &units = out->stages[number - 2];
    units.resize(shape.units);
    const StageInput in = stage_input(network, input, number, vec);
    if (!pack_branch1(layers, in, plan.index_of[0], units[0].branch1)) return false;
    if (!pack_branch2(layers, in, plan.index_of[1], units[0].branch2)) return false;
    for (int u = 1; u < shape.units; ++u) {
        if (!pack_branch2(layers, {block, plan.inputs[u], fours}, plan.index_of[u + 1], units[u].branch2)) return false;
    }
    for (const Slot &s : plan.outputs) out->channel_offset[number - 2].push_back(block.offset(s));
    return true;
}

bool pack_all(FoldingReader &layers, const Network &network, Size input, int vec, PackedWeights *out) {
    const WindowLayout stem = stem_layout(network, vec);
    if (!allocate(out->stem, stem.end(), 0)) return false;
    pack_window(layers, stem, identity(network.stem_channels), out->stem.weights.data());

    for (int number = 2; number < 2 + kStages; ++number) {
        if (!pack_stage(layers, network, input, number, vec, out)) return false;
    }

    const PointwiseLayout conv5 = conv5_layout(network, vec);
    const StageInput in = head_input(network, input, vec);
    if (!allocate(out->conv5, conv5.end(), conv5.k)) return false;
    fill_offsets(in, out->conv5.table.data());
    pack_pointwise(layers, conv5, identity(network.conv5_channels), in.order(), out->conv5.weights.data());
    out->channel_offset[kStages] = identity(network.conv5_channels);

    const PointwiseLayout fc = fc_layout(network, layers.classes(), vec);
    if (!allocate(out->fc, fc.end(), 0)) return false;
    pack_pointwise(layers, fc, identity(layers.classes()), identity(fc.k), out->fc.weights.data());
    out->classes = layers.classes();
    return true;
}

/// The next layer, whose output channels are in `groups`, `stride` floats apart in the blob; each output sums `rows`
/// products. `at`: the first group.
template <typename Layout>
void pack_groups(FoldingReader &layers, const Layout &at, int rows, int groups, int stride, float *blob) {
    const int channels = layers.next().out_channels;
    const int group_channels = channels / groups;
    for (int co = 0; co < channels; ++co) {
        float *group = blob + size_t(co / group_channels) * stride;
        const int lane = co % group_channels;
        group[at.bias + lane] = static_cast<float>(layers.bias()[co]);
        const std::span<const float> weights = layers.weights(co);
        const double scale = layers.scale(co);
        for (int i = 0; i < rows; ++i) group[at.weight_index(lane, i)] = static_cast<float>(weights[i] * scale);
    }
}

void pack_step(FoldingReader &layers, const Step &s, float *blob) {
    switch (s.kind) {
    case StepKind::kStem: {
        const WindowLayout at = chain_stem_layout(s);
        return pack_groups(layers, at, at.taps, 1, 0, blob);
    }
    case StepKind::kHead:
        if (s.expanded > 0) pack_groups(layers, chain_head_layout(s), s.in_channels, 1, 0, blob);
        return;
    case StepKind::kUnit: {
        const UnitLayout at = unit_layout(s);
        if (s.expanded > 0) pack_groups(layers, at.expand, at.expand.k, s.expand_groups, at.expand_stride, blob);
        pack_groups(layers, at.depthwise, kTaps, s.expand_groups, at.depthwise_stride, blob);
        return pack_groups(layers, at.project, at.project.k, s.project_groups, at.project_stride, blob);
    }
    case StepKind::kAveragePool:
        return;
    }
}

bool pack_chain(FoldingReader &layers, const Chain &chain, PackedWeights *out) {
    for (const Step &s : chain.steps) {
        // A kernel without weights is given something all the same.
        if (!allocate(out->steps.emplace_back(), std::max(1, blob_size(s)), 0)) return false;
        pack_step(layers, s, out->steps.back().weights.data());
    }
    const PointwiseLayout fc = fc_layout(chain, layers.classes());
    if (!allocate(out->fc, fc.end(), 0)) return false;
    pack_groups(layers, fc, fc.k, 1, 0, out->fc.weights.data());
    out->classes = layers.classes();
    return true;
}

/// All kernels that have weights, in the order of a run.
std::vector<KernelWeights *> all_kernels(PackedWeights &weights) {
    std::vector<KernelWeights *> all = {&weights.stem};
    for (std::vector<UnitWeights> &units : weights.stages) {
        for (UnitWeights &unit : units) {
            all.push_back(&unit.branch1);
            all.push_back(&unit.branch2);
        }
    }
    all.push_back(&weights.conv5);
    for (KernelWeights &step : weights.steps) all.push_back(&step);
    all.push_back(&weights.fc);
    return all;
}

/// Moves them into huge pages, if there are such. Weights without gaps, so that a kernel that prefetches past its own
/// finds the next one's.
void gather(PackedWeights &weights) {
    const std::vector<KernelWeights *> kernels = all_kernels(weights);
    size_t bytes = 0;
    for (const KernelWeights *kernel : kernels) {
        bytes += HugePages::room(kernel->weights.bytes()) + HugePages::room(kernel->table.bytes());
    }
    if (!weights.pages.map(bytes)) return;
    for (KernelWeights *kernel : kernels) kernel->weights.move_to(weights.pages.take(kernel->weights.bytes()));
    for (KernelWeights *kernel : kernels) kernel->table.move_to(weights.pages.take(kernel->table.bytes()));
}

}  // namespace

Status pack_weights(const Safetensors &file, const std::string &file_name, const AnyNetwork &network, Size input,
                    int vec, PackedWeights *out) {
    try {
        FoldingReader layers;
        if (Status status = layers.open(file, file_name, network); !status.ok()) return status;
        const Comparison *comparison = network.comparison();
        const bool packed = comparison != nullptr ? pack_chain(layers, comparison->chain(input), out)
                                                  : pack_all(layers, *network.shufflenet_v2(), input, vec, out);
        if (packed) {
            if (layers.status().ok()) gather(*out);
            return layers.status();
        }
    } catch (const std::bad_alloc &) {
    }
    return {Code::kOutOfMemory, std::string(network.name()) + ": out of memory for the packed weights"};
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
