#include "experiments.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>

namespace shufflenet::bench {

using networks::Tensor;

namespace {

/// All of Tables 1 to 4 is measured at this size.
constexpr Size kExperimentSize{56, 56};
constexpr Size kCellSize{28, 28};

using Block = decltype(Experiment::block);

std::string width_suffix(int width) { return "_x" + std::to_string(1 << width); }

/// Table 1. Widths x2 and x4 are the first one's channels doubled and redoubled.
struct G1Row {
    std::string_view name;
    int c1, c2;
    PaperRow paper;
};
constexpr std::array<G1Row, 4> kG1 = {{
    {"1:1", 32, 32, {{1480, 723, 232}, {76.2, 21.7, 5.3}}},
    {"1:2", 22, 44, {{1296, 586, 206}, {72.9, 20.5, 5.1}}},
    {"1:6", 13, 78, {{876, 489, 189}, {69.1, 17.9, 4.6}}},
    {"1:12", 9, 108, {{748, 392, 163}, {57.6, 15.1, 4.4}}},
}};

Experiment g1_experiment(const G1Row &row, int width) {
    const int c1 = row.c1 << width, c2 = row.c2 << width;
    const std::string name = "g1_" + std::to_string(row.c1) + "_" + std::to_string(row.c2) + width_suffix(width);
    const Block block = [c1, c2](Framework &f, const Tensor &in) {
        return f.conv(f.conv(in, c2, 1, true), c1, 1, true);
    };
    return {"g1", row.name, width, name, c1, kExperimentSize, block, row.paper};
}

/// Table 2. Eight groups at width x1: the paper's 180 channels cannot be divided by 8, so 184.
struct G2Row {
    std::string_view name;
    int groups;
    std::array<int, 3> channels;
    PaperRow paper;
};
constexpr std::array<G2Row, 4> kG2 = {{
    {"g=1", 1, {64, 128, 256}, {{2451, 1289, 437}, {40.0, 10.2, 2.3}}},
    {"g=2", 2, {90, 180, 360}, {{1725, 873, 341}, {35.0, 9.5, 2.2}}},
    {"g=4", 4, {128, 256, 512}, {{1026, 644, 338}, {32.9, 8.7, 2.1}}},
    {"g=8", 8, {184, 360, 720}, {{634, 445, 230}, {27.8, 7.5, 1.8}}},
}};

Experiment g2_experiment(const G2Row &row, int width) {
    const int channels = row.channels[width], groups = row.groups;
    const Block block = [channels, groups](Framework &f, const Tensor &in) {
        return f.conv(in, channels, 1, true, groups);
    };
    const std::string name = "g2_g" + std::to_string(groups) + width_suffix(width);
    return {"g2", row.name, width, name, channels, kExperimentSize, block, row.paper};
}

/// Table 3. Of the fragments' channels the paper says that FLOPs are equal: with two of them 1 / sqrt(2) of the
/// one-fragment block's, with four a half. Parallel fragments all read the block's input, and their outputs are added.
struct G3Row {
    std::string_view name;
    int fragments;
    bool parallel;
    std::array<int, 3> channels;
    PaperRow paper;
};
constexpr std::array<G3Row, 5> kG3 = {{
    {"1-fragment", 1, false, {64, 128, 256}, {{2446, 1274, 434}, {40.2, 10.1, 2.3}}},
    {"2-fragment-series", 2, false, {45, 90, 180}, {{1790, 909, 336}, {38.6, 10.1, 2.2}}},
    {"4-fragment-series", 4, false, {32, 64, 128}, {{752, 745, 349}, {38.4, 10.1, 2.3}}},
    {"2-fragment-parallel", 2, true, {45, 90, 180}, {{1537, 803, 320}, {33.4, 9.1, 2.2}}},
    {"4-fragment-parallel", 4, true, {32, 64, 128}, {{691, 572, 292}, {35.0, 8.4, 2.1}}},
}};

Experiment g3_experiment(const G3Row &row, int width) {
    const int channels = row.channels[width];
    const Block block = [channels, row](Framework &f, const Tensor &in) {
        std::vector<Tensor> fragments;
        for (int i = 0; i < row.fragments; ++i) {
            fragments.push_back(f.conv(row.parallel || i == 0 ? in : fragments.back(), channels, 1, true));
        }
        while (row.parallel && fragments.size() > 1) {
            const Tensor sum = f.add(fragments[0], fragments[1]);
            fragments.erase(fragments.begin(), fragments.begin() + 2);
            fragments.push_back(sum);
        }
        return fragments.back();
    };
    const std::string name =
        "g3_" + std::to_string(row.fragments) + (row.parallel ? "_parallel" : "_series") + width_suffix(width);
    return {"g3", row.name, width, name, channels, kExperimentSize, block, row.paper};
}

/// Table 4. The paper says "bottleneck unit in ResNet": the inner convolutions have a quarter of the c channels.
struct G4Row {
    std::string_view name;
    bool relu, shortcut;
    PaperRow paper;
};
constexpr int kG4Channels = 32;
constexpr std::array<G4Row, 4> kG4 = {{
    {"ReLU, shortcut", true, true, {{2427, 2066, 1436}, {56.7, 16.9, 5.0}}},
    {"ReLU, no shortcut", true, false, {{2647, 2256, 1735}, {61.9, 18.8, 5.2}}},
    {"no ReLU, shortcut", false, true, {{2672, 2121, 1458}, {57.3, 18.2, 5.1}}},
    {"no ReLU, no shortcut", false, false, {{2842, 2376, 1782}, {66.3, 20.2, 5.4}}},
}};

/// ReLU and the shortcut's addition are layers of their own, as in the frameworks that the paper measured.
Experiment g4_experiment(const G4Row &row, int width) {
    const int c = kG4Channels << width;
    const Block block = [c, row](Framework &f, const Tensor &in) {
        const auto activated = [&](const Tensor &tensor) { return row.relu ? f.relu(tensor) : tensor; };
        const Tensor reduced = activated(f.conv(in, c / 4, 1, false));
        const Tensor windowed = activated(f.conv(reduced, c / 4, 3, false));
        const Tensor expanded = f.conv(windowed, c, 1, false);
        return activated(row.shortcut ? f.add(expanded, in) : expanded);
    };
    const std::string name =
        std::string("g4") + (row.relu ? "_relu" : "") + (row.shortcut ? "_shortcut" : "") + width_suffix(width);
    return {"g4", row.name, width, name, c, kExperimentSize, block, row.paper};
}

/// GoogLeNet's inception (3a) with its own output's 256 channels as input (Szegedy et al., CVPR 2015, Table 1).
Tensor inception(Framework &f, const Tensor &in) {
    const Tensor one = f.conv(in, 64, 1, true);
    const Tensor three = f.conv(f.conv(in, 96, 1, true), 128, 3, true);
    const Tensor five = f.conv(f.conv(in, 16, 1, true), 32, 5, true);
    const Tensor pooled = f.conv(f.max_pool(in), 32, 1, true);
    return f.concat({one, three, five, pooled});
}

/// NASNet-A's normal cell with 32 filters (Zoph et al., CVPR 2018, Figure 4), whose two inputs are the same tensor
/// here. A separable convolution is ReLU, depthwise, 1x1, twice.
Tensor nasnet_a(Framework &f, const Tensor &in) {
    const int filters = in.count() / 6;
    const auto separable = [&](Tensor tensor, int kernel) {
        for (int i = 0; i < 2; ++i) tensor = f.conv(f.depthwise(f.relu(tensor), kernel), filters, 1, false);
        return tensor;
    };
    const Tensor before = f.conv(f.relu(in), filters, 1, false);
    const Tensor now = f.conv(f.relu(in), filters, 1, false);
    const Tensor y1 = f.add(separable(now, 3), now);
    const Tensor y2 = f.add(separable(before, 3), separable(now, 5));
    const Tensor y3 = f.add(f.average_pool(now), before);
    const Tensor y4 = f.add(f.average_pool(before), f.average_pool(before));
    const Tensor y5 = f.add(separable(before, 5), separable(before, 3));
    return f.concat({before, y1, y2, y3, y4, y5});
}

Tensor one_convolution(Framework &f, const Tensor &in) { return f.conv(in, in.count(), 1, true); }

// Units of the paper's appendix, Table 1b; what c is it does not say for each. Taken: the channels of a unit's widest
// tensor, rounded where groups ask for it.

/// ShuffleNetV1's: a bottleneck with a quarter of the channels; with one group and without shuffle the Xception-like
/// unit.
Tensor shufflenet_v1_unit(Framework &f, const Tensor &in, int groups) {
    const int middle = in.count() / 4;
    Tensor x = f.depthwise(f.relu(f.conv(in, middle, 1, false, groups)), 3);
    // The inverse of a shuffle of g groups is one of as many groups as a group has channels.
    if (groups > 1) x = f.shuffle(x, middle / groups);
    return f.relu(f.add(f.conv(x, in.count(), 1, false, groups), in));
}

/// MobileNetV2's: an inverted residual that expands by six, to about c.
Tensor mobilenet_v2_unit(Framework &f, const Tensor &in, int c) {
    const Tensor wide = f.relu6(f.conv(in, c, 1, false));
    return f.add(f.conv(f.relu6(f.depthwise(wide, 3)), in.count(), 1, false), in);
}

struct UnitFigures {
    Size size;
    std::string_view table;
    /// V2, V1, MobileNetV2, Xception.
    std::array<PaperRow, 4> paper;
};
constexpr std::array<UnitFigures, 2> kUnits = {{
    {{56, 56},
     "units56",
     {{{{216, 142, 81}, {34.8, 12.3, 3.9}},
       {{127, 73, 45}, {24.3, 9.4, 3.0}},
       {{89, 125, 69}, {25.8, 10.0, 3.0}},
       {{185, 52, 68}, {27.0, 9.7, 3.1}}}}},
    {{28, 28},
     "units28",
     {{{{407, 313, 237}, {174.5, 53.4, 16.6}},
       {{298, 222, 60}, {139.7, 43.9, 13.2}},
       {{381, 286, 189}, {118.3, 46.2, 13.3}},
       {{254, 238, 169}, {117.0, 45.8, 14.0}}}}},
}};

void append_units(const UnitFigures &figures, int width, std::vector<Experiment> *all) {
    const int c = 64 << width;
    // Three groups of whole vectors. A sixth, a multiple of four.
    const int grouped = (c + 12) / 24 * 24, narrow = (c / 6 + 3) / 4 * 4;
    const auto append = [&](std::string_view row, const char *name, int channels, const Block &block, int number) {
        const std::string id =
            std::string("unit_") + name + "_" + std::to_string(c) + "_" + std::to_string(figures.size.height);
        all->push_back({figures.table, row, width, id, channels, figures.size, block, figures.paper[number]});
    };
    append("ShuffleNetV2", "shufflenet_v2", c, shufflenet_v2_unit, 0);
    append(
        "ShuffleNetV1, g=3", "shufflenet_v1", grouped,
        [](Framework &f, const Tensor &in) { return shufflenet_v1_unit(f, in, 3); }, 1);
    append(
        "MobileNetV2", "mobilenet_v2", narrow,
        [c](Framework &f, const Tensor &in) { return mobilenet_v2_unit(f, in, c); }, 2);
    append(
        "Xception-like", "xception", c, [](Framework &f, const Tensor &in) { return shufflenet_v1_unit(f, in, 1); }, 3);
}

std::vector<Experiment> all_experiments() {
    std::vector<Experiment> all;
    const auto append = [&all](const auto &rows, auto make) {
        for (int width = 0; width < 3; ++width) {
            for (const auto &row : rows) all.push_back(make(row, width));
        }
    };
    append(kG1, g1_experiment);
    append(kG2, g2_experiment);
    append(kG3, g3_experiment);
    append(kG4, g4_experiment);
    const auto cell = [&](std::string_view row, const char *name, int channels, const Block &block) {
        all.push_back({"cells", row, 0, name, channels, kCellSize, block, {}});
    };
    cell("Inception", "inception", 256, inception);
    cell("its FLOPs in one convolution", "inception_plain", 420, one_convolution);
    cell("NASNet-A", "nasnet_a", 192, nasnet_a);
    cell("its FLOPs in one convolution", "nasnet_a_plain", 166, one_convolution);
    for (const UnitFigures &figures : kUnits) {
        for (int width = 0; width < 3; ++width) append_units(figures, width, &all);
    }
    return all;
}

/// Of a table: those of the row before at the same width; of cells, pair by pair.
void check_flops(const TableSpec &table, const std::vector<Experiment> &all) {
    const Experiment *before = nullptr;
    int number = 0;
    for (const Experiment &e : all) {
        if (!table.equal_flops() || e.table != table.name) continue;
        const bool compared =
            before != nullptr && before->width == e.width && (table.name != "cells" || number % 2 == 1);
        const double ratio = compared ? double(e.cost().flops) / double(before->cost().flops) : 1;
        if (std::abs(ratio - 1) > table.flops_tolerance) {
            throw std::logic_error(e.name + ": " + std::to_string(ratio) + " times the FLOPs of " + before->name);
        }
        before = &e;
        ++number;
    }
}

}  // namespace

networks::Graph Experiment::graph(int repeats) const {
    networks::GraphBuilder b(name, size);
    Tensor x = b.pointwise("input", {"input", "input_norm"}, b.image(), channels, networks::kNoActivation);
    for (int i = 0; i < repeats; ++i) {
        Framework f(b, "block" + std::to_string(i) + "_");
        x = block(f, x);
    }
    b.output("out", x);
    return b.take();
}

std::vector<networks::Layer> Experiment::layers() const {
    std::vector<networks::Layer> all = graph(1).layers;
    all.erase(all.begin());
    return all;
}

networks::Cost Experiment::cost() const {
    networks::Cost sum;
    for (const networks::Layer &layer : layers()) {
        sum.flops += layer.flops();
        sum.mac += layer.mac();
    }
    return sum;
}

const std::vector<Experiment> &experiments() {
    static const std::vector<Experiment> all = [] {
        std::vector<Experiment> made = all_experiments();
        for (const TableSpec &table : kTables) check_flops(table, made);
        return made;
    }();
    return all;
}

size_t time_part(const networks::Layer &layer) {
    using networks::LayerKind;
    switch (layer.kind) {
    case LayerKind::kConvolution:
        return layer.depthwise() ? 1 : 0;
    case LayerKind::kLinear:
        return 0;
    case LayerKind::kAdd:
    case LayerKind::kActivation:
        return 2;
    case LayerKind::kCopy:
        return 3;
    default:
        return 4;
    }
}

networks::Program unfused_program(const networks::Graph &graph) { return make_program(graph, {.fuse = false}); }
networks::Program fused_program(const networks::Graph &graph) { return make_program(fused(graph)); }

std::vector<networks::Program> measured_programs(std::string_view set) {
    std::vector<networks::Program> programs;
    const auto append = [&](const networks::Graph &graph) {
        programs.push_back(unfused_program(graph));
        programs.push_back(fused_program(graph));
    };
    for (const Experiment &e : experiments()) {
        if (set != "quick" || e.width == 0) append(e.graph(kRepeats));
    }
    for (const char *name : kDecomposed) {
        if (set == "all") append(framework_network(name));
    }
    return programs;
}

}  // namespace shufflenet::bench
