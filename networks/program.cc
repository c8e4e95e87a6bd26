#include "program.h"

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>

#include "plan.h"

namespace shufflenet::networks {

namespace {

/// Neighbours that one 128-bit vector holds: what a processor that multiplies by a lane of a vector wants to load.
constexpr int kQuad = 4;

/// One thing that a convolution sums over: where it lies, and its number among the channels of its group.
struct Summand {
    int node = 0, lane = 0;  ///< Place: memory order, for planes of a node are side by side.
    int number = 0;
    auto operator<=>(const Summand &) const = default;
};

bool is_quad(const std::vector<Summand> &sorted, size_t at) {
    if (at + kQuad > sorted.size()) return false;
    const Summand &first = sorted[at], &last = sorted[at + kQuad - 1];
    return last.node == first.node && last.lane == first.lane + kQuad - 1 && first.lane / kPlane == last.lane / kPlane;
}

/// The order of summation: first `quads` times four neighbours of a plane, then all others; both walk memory forwards.
std::vector<Summand> summation_order(std::vector<Summand> summands, int quads) {
    std::ranges::sort(summands);
    std::vector<Summand> order, others;
    for (size_t i = 0; i < summands.size();) {
        const bool quad = static_cast<int>(order.size()) < quads * kQuad && is_quad(summands, i);
        for (const size_t end = i + (quad ? kQuad : 1); i < end; ++i) (quad ? order : others).push_back(summands[i]);
    }
    order.insert(order.end(), others.begin(), others.end());
    return order;
}

int count_quads(std::vector<Summand> summands) {
    std::ranges::sort(summands);
    int quads = 0;
    for (size_t i = 0; i < summands.size();) {
        const bool quad = is_quad(summands, i);
        quads += int{quad};
        i += quad ? kQuad : 1;
    }
    return quads;
}

/// Writes the program of a graph whose channels have places.
class Writer {
  public:
    Writer(const Graph &graph, Nodes nodes, Places places, const PlanOptions &options)
        : options_(options), nodes_(std::move(nodes)), places_(std::move(places)) {
        program_.graph = graph;
    }

    Program run() {
        find_rows();
        std::vector<bool> resident(nodes_.nodes.size());
        for (int n = 0; n < count(); ++n) resident[n] = !in_row_[n] && node(n).kind != KernelKind::kLinear;
        memory_ = allocate(nodes_, places_, resident);
        program_.arena_floats = memory_.floats;
        for (int n = 0; n < count(); ++n) kernels_.push_back(kernel_of(n));
        share_quads();
        for (int n = 0; n < count(); ++n) write_call(n);
        sort_packing();
        write_outputs();
        return std::move(program_);
    }

  private:
    int count() const { return static_cast<int>(nodes_.nodes.size()); }
    const Node &node(int n) const { return nodes_.nodes[n]; }
    const Layer &layer(int n, int number) const { return program_.graph.layers[node(n).layers[number]]; }
    const Layer &last_layer(int n) const { return program_.graph.layers[node(n).layers.back()]; }

    /// Which pooled features a last linear layer reads, and so lie in rows, an image's in each; linear layers that are
    /// not last, or read anything else, are pointwise convolutions of one pixel.
    void find_rows() {
        in_row_.assign(nodes_.nodes.size(), false);
        row_offset_.assign(nodes_.nodes.size(), 0);
        std::vector<std::vector<int>> readers(nodes_.nodes.size());
        for (int n = 0; n < count(); ++n) {
            for (const Tensor &tensor : node(n).in) note_reader(tensor, n, &readers);
        }
        for (const Tensor &tensor : nodes_.outputs) note_reader(tensor, -1, &readers);
        for (int n = count() - 1; n >= 0; --n) {
            if (node(n).kind != KernelKind::kLinear) continue;
            if (!is_last(n, readers)) nodes_.nodes[n].kind = KernelKind::kPointwise;
        }
        for (int n = 0; n < count(); ++n) {
            if (!in_row_[n]) continue;
            row_offset_[n] = program_.row_floats;
            program_.row_floats += places_.planes[n] * kPlane;
        }
    }
    static void note_reader(const Tensor &tensor, int reader, std::vector<std::vector<int>> *readers) {
        for (const Channel &channel : tensor.channels) {
            if (channel.layer == kImage) continue;
            std::vector<int> &all = (*readers)[channel.layer];
            if (all.empty() || all.back() != reader) all.push_back(reader);
        }
    }
    bool is_last(int n, const std::vector<std::vector<int>> &readers) {
        // The only linear layer, an output as it is, of pooled features that nothing else reads.
        const bool output =
            std::ranges::any_of(nodes_.outputs, [&](const Tensor &tensor) { return is_whole(tensor, n); });
        const auto linear = [](const Node &other) { return other.kind == KernelKind::kLinear; };
        if (!output || readers[n] != std::vector<int>{-1} || std::ranges::count_if(nodes_.nodes, linear) > 1)
            return false;
        const auto pooled = [&](const Channel &channel) {
            const KernelKind kind = channel.layer == kImage ? KernelKind::kStem : node(channel.layer).kind;
            return (kind == KernelKind::kGlobalPool || kind == KernelKind::kPooledPointwise) &&
                   readers[channel.layer] == std::vector<int>{n};
        };
        if (!std::ranges::all_of(node(n).in[0].channels, pooled)) return false;
        for (const Channel &channel : node(n).in[0].channels) in_row_[channel.layer] = true;
        return true;
    }
    bool is_whole(const Tensor &tensor, int n) const {
        if (tensor.count() != node(n).out_channels) return false;
        for (int j = 0; j < tensor.count(); ++j) {
            if (tensor.channels[j] != Channel{n, j}) return false;
        }
        return true;
    }

    int lane_of(const Channel &channel) const { return places_.lane[channel.layer][channel.index]; }
    /// Where a channel is at pixel 0: in the arena, or in a row.
    int offset_of(const Channel &channel) const {
        const int lane = lane_of(channel);
        return plane_offset(channel.layer, lane / kPlane) + lane % kPlane;
    }
    int plane_offset(int n, int plane) const {
        if (in_row_[n]) return row_offset_[n] + plane * kPlane;
        return memory_.offset[n] + plane * node(n).out.pixels() * kPlane;
    }

    /// The channels of an operand, group by group, as they lie in memory.
    std::vector<std::vector<Summand>> summands(const Tensor &in, int groups) const {
        std::vector<std::vector<Summand>> all(groups);
        const int each = in.count() / groups;
        for (int j = 0; j < in.count(); ++j) {
            const Channel &from = in.channels[j];
            all[j / each].push_back({from.layer, lane_of(from), j % each});
        }
        return all;
    }

    /// A plane that is read whole. One that has a channel which is read several times is read as often.
    struct Plane {
        int node = 0, plane = 0, time = 0;
        auto operator<=>(const Plane &) const = default;
    };
    /// Of each channel of an operand, the plane that it is read in.
    std::vector<Plane> planes_of_channels(const Tensor &in) const {
        std::map<Channel, int> times;
        std::vector<Plane> planes;
        for (const Channel &channel : in.channels) {
            planes.push_back({channel.layer, lane_of(channel) / kPlane, times[channel]++});
        }
        return planes;
    }
    /// The planes that a unit without a first convolution reads, in memory order.
    std::vector<Plane> planes_read(const Tensor &in) const {
        const std::vector<Plane> all = planes_of_channels(in);
        const std::set<Plane> planes(all.begin(), all.end());
        return {planes.begin(), planes.end()};
    }

    // A unit's layers between its first and last one, by lanes.

    struct Unit {
        int first = -1, depthwise = 0, last = 0;  ///< Numbers of its layers in the node.
        int groups = 1;                           ///< Of the lanes between.
        int lanes = 0;                            ///< Of each group.
        std::vector<int> lane;                    ///< Of each depthwise output.
    };
    Unit unit_of(int n) const {
        Unit unit;
        const bool expands = !layer(n, 0).depthwise();
        unit.first = expands ? 0 : -1;
        unit.depthwise = expands ? 1 : 0;
        unit.last = unit.depthwise + 1;
        const Layer &depthwise = layer(n, unit.depthwise);
        if (expands) {
            unit.groups = layer(n, 0).groups;
            unit.lanes = depthwise.out_channels / unit.groups;
            for (const Channel &from : depthwise.in[0].channels) unit.lane.push_back(middle_lane(unit, from.index));
            return unit;
        }
        const Tensor &in = node(n).in[0];
        const std::vector<Plane> planes = planes_read(in), of_channels = planes_of_channels(in);
        unit.lanes = static_cast<int>(planes.size()) * kPlane;
        for (int j = 0; j < in.count(); ++j) {
            const auto number = std::ranges::lower_bound(planes, of_channels[j]) - planes.begin();
            unit.lane.push_back(static_cast<int>(number) * kPlane + lane_of(in.channels[j]) % kPlane);
        }
        return unit;
    }
    /// Each group in whole planes.
    static int middle_lane(const Unit &unit, int output) {
        return output / unit.lanes * round_up(unit.lanes, kPlane) + output % unit.lanes;
    }
    /// What a unit's last convolution sums over, group by group: lanes of depthwise outputs.
    std::vector<std::vector<Summand>> last_summands(int n, const Unit &unit) const {
        const Layer &last = layer(n, unit.last);
        std::vector<std::vector<Summand>> all(last.groups);
        const int each = last.in_channels() / last.groups;
        for (int j = 0; j < last.in_channels(); ++j) {
            all[j / each].push_back({0, unit.lane[last.in[0].channels[j].index], j % each});
        }
        return all;
    }

    Kernel kernel_of(int n) const {
        const Node &what = node(n);
        Kernel kernel;
        kernel.kind = what.kind;
        kernel.in = what.in[0].size;
        kernel.out = what.out;
        kernel.lanes = places_.lanes[n];
        kernel.groups = what.groups;
        if (!what.layers.empty()) kernel.activation = last_layer(n).activation;
        switch (what.kind) {
        case KernelKind::kStem:
            kernel.in_channels = what.in[0].count();
            kernel.window = layer(n, 0).window;
            kernel.activation = layer(n, 0).activation;
            if (what.layers.size() > 1) kernel.pool = layer(n, 1).window;
            break;
        case KernelKind::kUnit:
            describe_unit(n, &kernel);
            break;
        case KernelKind::kPooledPointwise:
            kernel.activation = layer(n, 0).activation;
            [[fallthrough]];
        case KernelKind::kPointwise:
        case KernelKind::kConvolution:
            kernel.in_channels = what.in[0].count();
            kernel.window = layer(n, 0).window;
            kernel.shortcut = what.in.size() > 1;
            break;
        case KernelKind::kCopy:
            if (!copy_runs(n).empty()) kernel.in_planes = kCopyEntries * kernel.planes();
            break;
        case KernelKind::kSoftmax:
            break;
        case KernelKind::kLinear:
            describe_linear(n, &kernel);
            break;
        default:
            kernel.resize = last_layer(n).resize;
            kernel.in_planes = places_.planes[n];
            kernel.window = last_layer(n).window;
            kernel.counts_padding = what.kind != KernelKind::kAveragePool || last_layer(n).counts_padding;
            break;
        }
        return kernel;
    }

    /// The table of a copy in runs; empty: some plane has more than two, or is at an end of the arena, beyond which
    /// whole vectors would be read.
    std::vector<int> copy_runs(int n) const {
        std::vector<std::vector<std::pair<int, int>>> runs(places_.planes[n]);  // First lane, and offset less lane.
        std::vector<int> at(size_t(places_.planes[n]) * kPlane, -1);
        for (int j = 0; j < node(n).out_channels; ++j) at[places_.lane[n][j]] = offset_of(node(n).in[0].channels[j]);
        for (int lane = 0; lane < static_cast<int>(at.size()); ++lane) {
            if (at[lane] < 0) continue;
            auto &plane = runs[lane / kPlane];
            const int start = at[lane] - lane % kPlane;
            if (plane.empty() || plane.back().second != start) plane.emplace_back(lane % kPlane, start);
        }
        const int most = program_.arena_floats - node(n).out.pixels() * kPlane;
        std::vector<int> table;
        for (const auto &plane : runs) {
            const auto outside = [&](const auto &run) { return run.second < 0 || run.second > most; };
            if (plane.empty() || plane.size() > 2 || std::ranges::any_of(plane, outside)) return {};
            table.insert(table.end(),
                         {plane[0].second, plane.back().second, plane.size() > 1 ? plane[1].first : kPlane});
        }
        return table;
    }

    void describe_unit(int n, Kernel *kernel) const {
        const Unit unit = unit_of(n);
        const Layer &last = layer(n, unit.last);
        if (unit.first >= 0) {
            kernel->in_channels = node(n).in[0].count();
            kernel->first = layer(n, unit.first).activation;
        } else {
            kernel->in_planes = unit.lanes / kPlane;
        }
        kernel->middle = unit.lanes;
        kernel->middle_groups = unit.groups;
        kernel->last_summands = last.in_channels() / last.groups;
        kernel->ordered = unit.first < 0 || unit.groups > 1 || last.groups > 1;
        kernel->shortcut = node(n).in.size() > 1;
        kernel->window = layer(n, unit.depthwise).window;
        kernel->second = layer(n, unit.depthwise).activation;
    }

    void describe_linear(int n, Kernel *kernel) const {
        kernel->in_channels = node(n).in[0].count();
        kernel->lanes = node(n).out_channels;
        kernel->in_planes = program_.row_floats / kPlane;
        kernel->element = options_.linear;
        const std::vector<Summand> in = summation_order(summands(node(n).in[0], 1)[0], 0);
        for (int i = 0; i < static_cast<int>(in.size()); ++i) {
            kernel->ordered |= row_offset_[in[i].node] + in[i].lane != i;
        }
    }

    /// The summands whose order starts with quads, of each group.
    std::vector<std::vector<Summand>> quad_summands(int n) const {
        const Kernel &kernel = kernels_[n];
        switch (kernel.kind) {
        case KernelKind::kUnit:
            if (!kernel.expands()) return last_summands(n, unit_of(n));
            return summands(node(n).in[0], kernel.middle_groups);
        case KernelKind::kPointwise:
        case KernelKind::kPooledPointwise:
            return summands(node(n).in[0], kernel.groups);
        default:
            return {};
        }
    }

    /// Calls that are alike but for their quads share a kernel, with as many as all of them have.
    void share_quads() {
        std::map<Kernel, int> quads;
        for (int n = 0; n < count(); ++n) {
            int own = 1 << 20;
            for (const std::vector<Summand> &group : quad_summands(n)) own = std::min(own, count_quads(group));
            if (own == 1 << 20) own = 0;
            const auto [found, added] = quads.emplace(kernels_[n], own);
            if (!added) found->second = std::min(found->second, own);
        }
        for (Kernel &kernel : kernels_) kernel.quads = quads.at(kernel);
    }

    int number_of(const Kernel &kernel) {
        const auto found = std::ranges::find(program_.kernels, kernel);
        if (found != program_.kernels.end()) return static_cast<int>(found - program_.kernels.begin());
        program_.kernels.push_back(kernel);
        return static_cast<int>(program_.kernels.size()) - 1;
    }

    void write_call(int n) {
        const Kernel &kernel = kernels_[n];
        Call call;
        call.id = id_of(n);
        call.kernel = number_of(kernel);
        call.table = static_cast<int>(program_.tables.size());
        call.weights = program_.weight_floats;
        call.layers = node(n).layers;
        if (kernel.kind == KernelKind::kLinear) {
            call.destination = Destination::kOutput;
            const auto own = [&](const Tensor &tensor) { return is_whole(tensor, n); };
            call.out = static_cast<int>(std::ranges::find_if(nodes_.outputs, own) - nodes_.outputs.begin());
        } else {
            ++program_.image_calls;
            call.destination = in_row_[n] ? Destination::kRow : Destination::kArena;
            call.out = in_row_[n] ? row_offset_[n] : memory_.offset[n];
        }
        write_table(n);
        if (kernel.kind == KernelKind::kCopy) {
            const int64_t bytes = int64_t{sizeof(float)} * node(n).out_channels * node(n).out.pixels();
            const std::string reason = node(n).layers.empty() ? node(n).reason : "a layer of the graph";
            program_.copies.push_back({static_cast<int>(program_.calls.size()), bytes, reason});
        }
        program_.weight_floats += weight_floats(kernel);
        program_.calls.push_back(std::move(call));
    }

    /// "stage2_unit0_branch2" of layers that begin so; the first layer's and the last one's names otherwise.
    std::string id_of(int n) const {
        if (node(n).layers.empty()) return "copy" + std::to_string(n);
        const std::string &first = layer(n, 0).id, &last = last_layer(n).id;
        if (node(n).layers.size() == 1) return first;
        const size_t differ = static_cast<size_t>(std::ranges::mismatch(first, last).in1 - first.begin());
        const size_t common = first.find_last_of('_', differ == first.size() ? std::string::npos : differ);
        if (common != std::string::npos && common > 0 && common <= differ) return first.substr(0, common);
        return first + "_" + last;
    }

    void append_lines() { program_.tables.resize(round_up(static_cast<int>(program_.tables.size()), kLineFloats)); }

    void write_table(int n) {
        const Kernel &kernel = kernels_[n];
        std::vector<int32_t> &table = program_.tables;
        const size_t first = table.size();
        switch (kernel.kind) {
        case KernelKind::kStem:
            write_stem(n);
            break;
        case KernelKind::kUnit:
            write_unit(n);
            break;
        case KernelKind::kPointwise:
        case KernelKind::kPooledPointwise:
        case KernelKind::kConvolution:
            write_channels(n, kernel.groups, 0);
            write_shortcut(n);
            break;
        case KernelKind::kLinear:
            write_linear(n);
            break;
        case KernelKind::kCopy:
            if (kernel.in_planes > 0) {
                const std::vector<int> runs = copy_runs(n);
                table.insert(table.end(), runs.begin(), runs.end());
                break;
            }
            table.resize(first + size_t(kernel.lanes), offset_of(node(n).in[0].channels[0]));
            for (int j = 0; j < node(n).out_channels; ++j) {
                table[first + size_t(places_.lane[n][j])] = offset_of(node(n).in[0].channels[j]);
            }
            break;
        case KernelKind::kSoftmax:
            table.resize(first + size_t(table_layout(kernel).size()), -1);
            for (int j = 0; j < node(n).out_channels; ++j) {
                table[first + size_t(places_.lane[n][j])] = offset_of(node(n).in[0].channels[j]);
            }
            break;
        default:
            for (int o = 0; o < static_cast<int>(node(n).in.size()); ++o) {
                for (const auto &operands : places_.operands[n]) {
                    table.push_back(plane_offset(operands[o].first, operands[o].second));
                }
            }
            if (kernel.kind == KernelKind::kDepthwise) write_depthwise(n);
            break;
        }
        append_lines();
    }

    /// A step of the packing whose output channels lie where the node's do.
    PackStep pack_step(int n, int layer_number, int weights_number) const {
        PackStep step;
        step.layer = node(n).layers[layer_number];
        step.blob = program_.weight_floats;
        step.layout = weight_layouts(kernels_[n])[weights_number];
        return step;
    }
    /// Output channel j of a node, in the layout of its last weights.
    int packed_lane(int n, const WeightLayout &layout, int j) const {
        const int group = places_.planes[n] * kPlane;
        return places_.lane[n][j] / group * layout.lanes + places_.lane[n][j] % group;
    }
    void set_output_lanes(int n, PackStep *step) const {
        for (int j = 0; j < node(n).out_channels; ++j) step->lanes.push_back(packed_lane(n, step->layout, j));
    }
    static void append_order(const std::vector<Summand> &group, PackStep *step) {
        for (const Summand &summand : group) step->order.push_back(summand.number);
    }

    void write_stem(int n) {
        PackStep step = pack_step(n, 0, 0);
        set_output_lanes(n, &step);
        step.taps_last = true;
        step.order.resize(node(n).in[0].channels.size());
        for (int j = 0; j < node(n).in[0].count(); ++j) step.order[node(n).in[0].channels[j].index] = j;
        program_.packing.push_back(std::move(step));
    }

    void write_depthwise(int n) {
        PackStep step = pack_step(n, 0, 0);
        set_output_lanes(n, &step);
        program_.packing.push_back(std::move(step));
    }

    /// The table of a convolution's input channels, and its packing; `weights_number`: which of the node's layers.
    void write_channels(int n, int groups, int weights_number) {
        PackStep step = pack_step(n, weights_number, weights_number);
        for (const std::vector<Summand> &group : summands(node(n).in[0], groups)) {
            const std::vector<Summand> order = summation_order(group, kernels_[n].quads);
            for (const Summand &summand : order) {
                program_.tables.push_back(plane_offset(summand.node, summand.lane / kPlane) + summand.lane % kPlane);
            }
            append_order(order, &step);
        }
        if (kernels_[n].kind != KernelKind::kUnit) set_output_lanes(n, &step);
        program_.packing.push_back(std::move(step));
    }

    void write_linear(int n) {
        PackStep step = pack_step(n, 0, 0);
        const std::vector<Summand> order = summation_order(summands(node(n).in[0], 1)[0], 0);
        for (const Summand &summand : order) {
            if (kernels_[n].ordered) program_.tables.push_back(row_offset_[summand.node] + summand.lane);
        }
        append_order(order, &step);
        for (int j = 0; j < node(n).out_channels; ++j) step.lanes.push_back(j);
        program_.packing.push_back(std::move(step));
    }

    void write_unit(int n) {
        const Unit unit = unit_of(n);
        const Kernel &kernel = kernels_[n];
        if (unit.first >= 0) {
            write_channels(n, unit.groups, 0);
            PackStep &first = program_.packing.back();
            for (int j = 0; j < layer(n, 0).out_channels; ++j) {
                first.lanes.push_back(j / unit.lanes * first.layout.lanes + j % unit.lanes);
            }
        } else {
            for (const Plane &plane : planes_read(node(n).in[0])) {
                program_.tables.push_back(plane_offset(plane.node, plane.plane));
            }
        }
        PackStep depthwise = pack_step(n, unit.depthwise, unit.depthwise);
        const int group = round_up(unit.lanes, kPlane);
        for (const int lane : unit.lane) {
            depthwise.lanes.push_back(lane / group * depthwise.layout.lanes + lane % group);
        }
        program_.packing.push_back(std::move(depthwise));
        PackStep last = pack_step(n, unit.last, unit.last);
        for (const std::vector<Summand> &summands : last_summands(n, unit)) {
            const std::vector<Summand> order = summation_order(summands, kernel.expands() ? 0 : kernel.quads);
            for (const Summand &summand : order) {
                if (kernel.ordered) program_.tables.push_back(summand.lane);
            }
            append_order(order, &last);
        }
        set_output_lanes(n, &last);
        program_.packing.push_back(std::move(last));
        write_shortcut(n);
    }

    void write_shortcut(int n) {
        if (!kernels_[n].shortcut) return;
        for (const auto &operand : places_.operands[n]) {
            program_.tables.push_back(plane_offset(operand[0].first, operand[0].second));
        }
    }

    /// Weight files are read in the order of layers, which fusion may have changed.
    void sort_packing() {
        std::erase_if(program_.packing,
                      [&](const PackStep &step) { return !program_.graph.layers[step.layer].has_weights(); });
        std::ranges::stable_sort(program_.packing, {}, &PackStep::layer);
    }

    void write_outputs() {
        for (size_t i = 0; i < nodes_.outputs.size(); ++i) {
            const Tensor &tensor = nodes_.outputs[i];
            ProgramOutput output{program_.graph.outputs[i].name, tensor.count(), tensor.size, {}};
            const Channel &first = tensor.channels[0];
            if (first.layer == kImage) throw std::runtime_error("output " + output.name + ": is the image");
            if (node(first.layer).kind != KernelKind::kLinear) {
                for (const Channel &channel : tensor.channels) output.offsets.push_back(offset_of(channel));
            }
            program_.outputs.push_back(std::move(output));
        }
    }

    Program program_;
    PlanOptions options_;
    Nodes nodes_;
    Places places_;
    Memory memory_;
    std::vector<Kernel> kernels_;  ///< Of each node.
    std::vector<bool> in_row_;     ///< Of each node: whether it writes to a row,
    std::vector<int> row_offset_;  ///< and where in it.
};

}  // namespace

int64_t Program::bytes_moved() const {
    int64_t bytes = 0;
    for (const Copy &copy : copies) bytes += copy.bytes;
    return bytes;
}

Program make_program(const Graph &graph, const PlanOptions &options) {
    check(graph);
    Nodes nodes = fuse(graph, options);
    Places places = place_channels(graph, &nodes);
    return Writer(graph, std::move(nodes), std::move(places), options).run();
}

}  // namespace shufflenet::networks
