// The paper's experiments (section 2, Tables 1 to 4), as blocks, with the figures that it measured; and two cells of
// networks that it has in mind in guideline G3. Channels are those of its ARM columns, because this, too, is a
// processor that computes one image at a time.
#pragma once

#include <span>

#include "blocks.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// All of Tables 1 to 4 is measured at this size, and each block is repeated so often.
inline constexpr Size kExperimentSize{56, 56};
inline constexpr Size kCellSize{28, 28};
inline constexpr int kRepeats = 10;

/// Figures of one row of the paper's tables at its three widths: GPU (GTX 1080Ti, batches/s) and ARM (Snapdragon 810,
/// images/s). Ma, Zhang, Zheng, Sun: ShuffleNet V2, ECCV 2018. Zeros: the paper has no such row.
struct PaperRow {
    std::array<double, 3> gpu{}, arm{};
};

/// One row of a table at one width.
struct Experiment {
    std::string_view table;  ///< "g1", "g2", "g3", "g4" or "cells".
    std::string_view row;    ///< As the paper names it.
    int width = 0;           ///< Which of the paper's three: 0, 1, 2 for x1, x2, x4.
    bool fused = false;      ///< Whether the whole block is also computed by one kernel.
    Block block;
    PaperRow paper;
};

/// What a table is for, and what its rows are compared with: the row that the guideline says is the fastest.
struct TableSpec {
    std::string_view name, title, guideline, best_row;
    /// Widths that are measured, as the paper names them.
    int widths;
    /// How far the FLOPs of rows may differ: channel counts are whole numbers. Below 0: rows are not of equal FLOPs,
    /// and it is images/s that is compared.
    double flops_tolerance;

    constexpr bool equal_flops() const { return flops_tolerance >= 0; }
    /// As the paper names it: a factor, or a unit's channels.
    std::string width_name(int width) const {
        return equal_flops() ? "x" + std::to_string(1 << width) : "c=" + std::to_string(64 << width);
    }
};

inline constexpr std::array<TableSpec, 7> kTables = {{
    {"g1", "G1: two 1x1 convolutions, c1 to c2 to c1 (Table 1)", "equal channel widths are the fastest", "1:1", 3,
     0.055},
    {"g2", "G2: a 1x1 group convolution (Table 2)", "more groups are slower", "g=1", 3, 0.035},
    {"g3", "G3: one to four 1x1 convolutions (Table 3)", "fragments are slower", "1-fragment", 3, 0.015},
    {"g4", "G4: ResNet's bottleneck with and without element-wise operations (Table 4)",
     "element-wise operations cost time", "no ReLU, no shortcut", 3, 0},
    {"cells", "G3, the cells that it is about: Inception's and NASNet-A's, and one 1x1 convolution of the same FLOPs",
     "cells of many fragments are slower than one convolution", "", 1, 0.004},
    {"units56", "Units at 56x56 (appendix, Table 1b)", "ShuffleNetV2's unit is the fastest", "ShuffleNetV2", 3, -1},
    {"units28", "Units at 28x28 (appendix, Table 1b)", "ShuffleNetV2's unit is the fastest", "ShuffleNetV2", 3, -1},
}};

namespace detail {

/// Table 1. Widths x2 and x4 are the first one's channels doubled and redoubled.
struct G1Row {
    std::string_view name;
    int c1, c2;
    PaperRow paper;
};
inline constexpr std::array<G1Row, 4> kG1 = {{
    {"1:1", 32, 32, {{1480, 723, 232}, {76.2, 21.7, 5.3}}},
    {"1:2", 22, 44, {{1296, 586, 206}, {72.9, 20.5, 5.1}}},
    {"1:6", 13, 78, {{876, 489, 189}, {69.1, 17.9, 4.6}}},
    {"1:12", 9, 108, {{748, 392, 163}, {57.6, 15.1, 4.4}}},
}};

constexpr Block g1_block(const G1Row &row, int width, Size size) {
    BlockBuilder b(Name("g1_") + row.c1 + "_" + row.c2 + "_x" + (1 << width), row.c1 << width, size);
    b.conv(b.conv(0, row.c2 << width, 1, true), row.c1 << width, 1, true);
    return b.take();
}

/// Table 2. Eight groups at width x1: the paper's 180 channels cannot be divided by 8, so 184.
struct G2Row {
    std::string_view name;
    int groups;
    std::array<int, 3> channels;
    PaperRow paper;
};
inline constexpr std::array<G2Row, 4> kG2 = {{
    {"g=1", 1, {64, 128, 256}, {{2451, 1289, 437}, {40.0, 10.2, 2.3}}},
    {"g=2", 2, {90, 180, 360}, {{1725, 873, 341}, {35.0, 9.5, 2.2}}},
    {"g=4", 4, {128, 256, 512}, {{1026, 644, 338}, {32.9, 8.7, 2.1}}},
    {"g=8", 8, {184, 360, 720}, {{634, 445, 230}, {27.8, 7.5, 1.8}}},
}};

constexpr Block g2_block(const G2Row &row, int width, Size size) {
    BlockBuilder b(Name("g2_g") + row.groups + "_x" + (1 << width), row.channels[width], size, row.groups);
    b.conv(0, row.channels[width], 1, true, row.groups);
    return b.take();
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
inline constexpr std::array<G3Row, 5> kG3 = {{
    {"1-fragment", 1, false, {64, 128, 256}, {{2446, 1274, 434}, {40.2, 10.1, 2.3}}},
    {"2-fragment-series", 2, false, {45, 90, 180}, {{1790, 909, 336}, {38.6, 10.1, 2.2}}},
    {"4-fragment-series", 4, false, {32, 64, 128}, {{752, 745, 349}, {38.4, 10.1, 2.3}}},
    {"2-fragment-parallel", 2, true, {45, 90, 180}, {{1537, 803, 320}, {33.4, 9.1, 2.2}}},
    {"4-fragment-parallel", 4, true, {32, 64, 128}, {{691, 572, 292}, {35.0, 8.4, 2.1}}},
}};

constexpr Block g3_block(const G3Row &row, int width, Size size) {
    const int c = row.channels[width];
    BlockBuilder b(Name("g3_") + row.fragments + (row.parallel ? "_parallel_x" : "_series_x") + (1 << width), c, size);
    std::vector<int> fragments;
    for (int i = 0; i < row.fragments; ++i) {
        fragments.push_back(b.conv(row.parallel || i == 0 ? 0 : fragments.back(), c, 1, true));
    }
    while (row.parallel && fragments.size() > 1) {
        const int sum = b.add(fragments[0], fragments[1]);
        fragments.erase(fragments.begin(), fragments.begin() + 2);
        fragments.push_back(sum);
    }
    return b.take();
}

/// Table 4. The paper says "bottleneck unit in ResNet": the inner convolutions have a quarter of the c channels.
struct G4Row {
    std::string_view name;
    bool relu, shortcut;
    PaperRow paper;
};
inline constexpr int kG4Channels = 32;
inline constexpr std::array<G4Row, 4> kG4 = {{
    {"ReLU, shortcut", true, true, {{2427, 2066, 1436}, {56.7, 16.9, 5.0}}},
    {"ReLU, no shortcut", true, false, {{2647, 2256, 1735}, {61.9, 18.8, 5.2}}},
    {"no ReLU, shortcut", false, true, {{2672, 2121, 1458}, {57.3, 18.2, 5.1}}},
    {"no ReLU, no shortcut", false, false, {{2842, 2376, 1782}, {66.3, 20.2, 5.4}}},
}};

/// ReLU and the shortcut's addition are operations of their own, as in the frameworks that the paper measured.
constexpr Block g4_block(const G4Row &row, int width, Size size) {
    const int c = kG4Channels << width;
    BlockBuilder b(Name("g4") + (row.relu ? "_relu" : "") + (row.shortcut ? "_shortcut" : "") + "_x" + (1 << width), c,
                   size);
    const auto activated = [&](int tensor) { return row.relu ? b.relu(tensor) : tensor; };
    const int reduced = activated(b.conv(0, c / 4, 1, false));
    const int windowed = activated(b.conv(reduced, c / 4, 3, false));
    const int expanded = b.conv(windowed, c, 1, false);
    activated(row.shortcut ? b.add(expanded, 0) : expanded);
    return b.take();
}

/// GoogLeNet's inception (3a) with its own output's 256 channels as input (Szegedy et al., CVPR 2015, Table 1).
constexpr Block inception_block(Size size, int scale) {
    BlockBuilder b("inception", 256 / scale, size);
    const int one = b.conv(0, 64 / scale, 1, true);
    const int three = b.conv(b.conv(0, 96 / scale, 1, true), 128 / scale, 3, true);
    const int five = b.conv(b.conv(0, 16, 1, true), 32 / scale, 5, true);
    const int pooled = b.conv(b.pool(0, OperationKind::kMaxPool), 32 / scale, 1, true);
    b.concat({one, three, five, pooled});
    return b.take();
}

/// NASNet-A's normal cell with 32 filters (Zoph et al., CVPR 2018, Figure 4), whose two inputs are the same tensor
/// here. A separable convolution is ReLU, depthwise, 1x1, twice.
constexpr Block nasnet_block(Size size, int filters) {
    BlockBuilder b("nasnet_a", 6 * filters, size);
    const auto separable = [&](int in, int kernel) {
        for (int i = 0; i < 2; ++i) in = b.conv(b.depthwise(b.relu(in), kernel), filters, 1, false);
        return in;
    };
    const auto average = [&](int in) { return b.pool(in, OperationKind::kAveragePool); };
    const int before = b.conv(b.relu(0), filters, 1, false);
    const int now = b.conv(b.relu(0), filters, 1, false);
    const int y1 = b.add(separable(now, 3), now);
    const int y2 = b.add(separable(before, 3), separable(now, 5));
    const int y3 = b.add(average(now), before);
    const int y4 = b.add(average(before), average(before));
    const int y5 = b.add(separable(before, 5), separable(before, 3));
    b.concat({before, y1, y2, y3, y4, y5});
    return b.take();
}

constexpr int activated(BlockBuilder &b, int tensor, Activation activation) {
    if (activation == Activation::kNone) return tensor;
    return b.relu(tensor, activation == Activation::kRelu6 ? 6 : 0);
}

/// A unit of a chain; the average that a concatenated shortcut starts with is part of it.
constexpr Block chain_unit(const Name &name, const Step &s) {
    const int groups = std::max(s.expand_groups, s.project_groups);
    BlockBuilder b(name, s.in_channels, s.in, groups);
    int tensor = 0;
    if (s.expanded > 0) {
        tensor = activated(b, b.conv(0, s.expanded, 1, false, s.expand_groups), s.expand_activation);
    }
    tensor = activated(b, b.depthwise(tensor, 3, s.stride), s.depthwise_activation);
    // The inverse of a shuffle of g groups is one of as many groups as a group has channels.
    if (s.shuffle > 1) tensor = b.shuffle(tensor, s.middle() / s.shuffle);
    tensor = b.conv(tensor, s.projected(), 1, false, s.project_groups);
    if (s.shortcut == Shortcut::kAdd) tensor = b.add(tensor, 0);
    tensor = activated(b, tensor, s.activation);
    if (s.shortcut == Shortcut::kConcat) b.concat({b.pool(0, OperationKind::kAveragePool, 2), tensor});
    if (s.shortcut != Shortcut::kConcat) b.fuse_as(s);
    return b.take();
}

/// Units of the paper's appendix, Table 1b; what c is it does not say for each. Taken: the channels of a unit's widest
/// tensor, rounded where groups ask for it. ReLU, addition, split, concatenation and shuffle are operations of their
/// own.
constexpr Block v2_unit(int c, Size size) {
    BlockBuilder b(Name("unit_shufflenet_v2_") + c + "_" + size.height, c, size);
    const int identity = b.slice(0, 0, c / 2);
    const int wide = b.relu(b.conv(b.slice(0, c / 2, c / 2), c / 2, 1, false));
    const int branch = b.relu(b.conv(b.depthwise(wide, 3), c / 2, 1, false));
    b.shuffle(b.concat({identity, branch}), 2);
    return b.take();
}

/// A bottleneck with a quarter of the channels; with one group and without shuffle the Xception-like unit.
constexpr Block v1_unit(const Name &name, int c, int groups, Size size) {
    Step unit{.kind = StepKind::kUnit,
              .in = size,
              .out = size,
              .in_channels = c,
              .out_channels = c,
              .expanded = c / 4,
              .expand_groups = groups,
              .project_groups = groups,
              .shuffle = groups,
              .expand_activation = Activation::kRelu,
              .activation = Activation::kRelu,
              .shortcut = Shortcut::kAdd};
    return chain_unit(name + c + "_" + size.height, unit);
}

/// An inverted residual that expands by six, to about c.
constexpr Block mobilenet_v2_unit(int narrow, int c, Size size) {
    BlockBuilder b(Name("unit_mobilenet_v2_") + c + "_" + size.height, narrow, size);
    const int wide = b.relu(b.conv(0, c, 1, false), 6);
    b.add(b.conv(b.relu(b.depthwise(wide, 3), 6), narrow, 1, false), 0);
    return b.take();
}

struct UnitFigures {
    Size size;
    std::string_view table;
    /// V2, V1, MobileNetV2, Xception.
    std::array<PaperRow, 4> paper;
};
inline constexpr std::array<UnitFigures, 2> kUnits = {{
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

constexpr Block plain_block(Name name, int channels, Size size) {
    BlockBuilder b(name, channels, size);
    b.conv(0, channels, 1, true);
    return b.take();
}

}  // namespace detail

/// All rows of all tables, in the order of the tables.
constexpr std::vector<Experiment> experiments() {
    std::vector<Experiment> all;
    for (int width = 0; width < 3; ++width) {
        for (const auto &row : detail::kG1) {
            all.push_back({"g1", row.name, width, false, detail::g1_block(row, width, kExperimentSize), row.paper});
        }
    }
    for (int width = 0; width < 3; ++width) {
        for (const auto &row : detail::kG2) {
            all.push_back({"g2", row.name, width, false, detail::g2_block(row, width, kExperimentSize), row.paper});
        }
    }
    for (int width = 0; width < 3; ++width) {
        for (const auto &row : detail::kG3) {
            const bool fused = row.fragments > 1;
            all.push_back({"g3", row.name, width, fused, detail::g3_block(row, width, kExperimentSize), row.paper});
        }
    }
    for (int width = 0; width < 3; ++width) {
        for (const auto &row : detail::kG4) {
            all.push_back({"g4", row.name, width, true, detail::g4_block(row, width, kExperimentSize), row.paper});
        }
    }
    const auto cell = [&](std::string_view row, bool fused, const Block &block) {
        all.push_back({"cells", row, 0, fused, block, {}});
    };
    cell("Inception", true, detail::inception_block(kCellSize, 1));
    cell("its FLOPs in one convolution", false, detail::plain_block("inception_plain", 420, kCellSize));
    cell("NASNet-A", true, detail::nasnet_block(kCellSize, 32));
    cell("its FLOPs in one convolution", false, detail::plain_block("nasnet_a_plain", 166, kCellSize));
    for (const auto &[size, table, paper] : detail::kUnits) {
        for (int width = 0; width < 3; ++width) {
            const int c = 64 << width;
            // Three groups of whole vectors. A sixth, in fours.
            const int grouped = (c + 12) / 24 * 24, narrow = (c / 6 + 3) / 4 * 4;
            all.push_back({table, "ShuffleNetV2", width, true, detail::v2_unit(c, size), paper[0]});
            all.push_back({table, "ShuffleNetV1, g=3", width, true,
                           detail::v1_unit("unit_shufflenet_v1_", grouped, 3, size), paper[1]});
            all.push_back({table, "MobileNetV2", width, true, detail::mobilenet_v2_unit(narrow, c, size), paper[2]});
            all.push_back(
                {table, "Xception-like", width, true, detail::v1_unit("unit_xception_", c, 1, size), paper[3]});
        }
    }
    return all;
}

namespace detail {

constexpr bool within(int64_t a, int64_t b, double tolerance) {
    const double ratio = double(a) / double(b);
    return ratio <= 1 + tolerance && ratio >= 1 - tolerance;
}

/// Whether a table's rows have equal FLOPs: those of the row before at the same width (of a pair, for cells).
constexpr bool equal_flops(const TableSpec &table) {
    if (!table.equal_flops()) return true;
    const std::vector<Experiment> all = experiments();
    for (size_t i = 1; i < all.size(); ++i) {
        if (all[i].table != table.name || all[i - 1].table != table.name) continue;
        if (table.name == "cells" ? all[i].fused : all[i].width != all[i - 1].width) continue;
        if (!within(all[i].block.flops(), all[i - 1].block.flops(), table.flops_tolerance)) return false;
    }
    return true;
}
// One by one, because compilers limit the steps of an expression.
static_assert(equal_flops(kTables[0]));
static_assert(equal_flops(kTables[1]));
static_assert(equal_flops(kTables[2]));
static_assert(equal_flops(kTables[3]));
static_assert(equal_flops(kTables[4]));

}  // namespace detail

/// The same structures at sizes that tests can afford: every row of every table, few channels, odd sides. Two are there
/// for operations that no table has: a shuffle, strides.
constexpr std::vector<Block> small_blocks() {
    constexpr Size size{9, 11};
    std::vector<Block> all;
    const auto add = [&](Block block) {
        block.name += "_small";
        all.push_back(block);
    };
    for (const auto &row : detail::kG1) add(detail::g1_block(row, 0, size));
    for (const auto &row : detail::kG2) add(detail::g2_block(row, 0, size));
    for (const auto &row : detail::kG3) add(detail::g3_block(row, 0, size));
    for (const auto &row : detail::kG4) add(detail::g4_block(row, 0, size));
    add(detail::v2_unit(24, size));
    add(detail::v1_unit("unit_shufflenet_v1_", 240, 3, size));
    add(detail::v1_unit("unit_xception_", 36, 1, size));
    add(detail::mobilenet_v2_unit(12, 64, size));
    add(detail::inception_block(size, 2));
    add(detail::nasnet_block(size, 16));
    BlockBuilder shuffled("shuffled", 72, size, 3);
    shuffled.add(
        shuffled.conv(shuffled.depthwise(shuffled.shuffle(shuffled.conv(0, 24, 1, true, 3), 3), 3), 72, 1, false, 3),
        0);
    add(shuffled.take());
    // One group that lies as three do, 60 channels of them: the first unit of ShuffleNetV1.
    BlockBuilder mixed("mixed", 24, size, 3);
    mixed.conv(mixed.depthwise(mixed.conv(0, 60, 1, true), 3, 2), 24, 1, false, 3);
    add(mixed.take());
    BlockBuilder strided("strided", 20, size);
    strided.conv(strided.depthwise(strided.conv(0, 12, 3, true, 1, 2), 5, 2), 7, 1, false);
    add(strided.take());
    BlockBuilder pooled("pooled", 18, size);
    const int smaller =
        pooled.concat({pooled.pool(0, OperationKind::kMaxPool, 2), pooled.pool(0, OperationKind::kAveragePool, 2)});
    pooled.conv(pooled.global_pool(smaller), 21, 1, false);
    add(pooled.take());
    return all;
}

/// Whether a block is also computed by one kernel.
inline bool has_fused_kernel(const Block &block) {
    const bool pools = std::ranges::any_of(block.operations, [](const Operation &op) {
        return op.kind == OperationKind::kGlobalPool || (op.kind == OperationKind::kAveragePool && op.stride > 1);
    });
    if (block.step) return true;
    return block.groups == 1 && block.operations.size() > 1 && !block.name.view().starts_with("g1") && !pools;
}

/// The block of that name; none: an exception.
inline Block find_block(std::string_view name) {
    for (const Experiment &e : experiments()) {
        if (e.block.name.view() == name) return e.block;
    }
    for (const Block &block : small_blocks()) {
        if (block.name.view() == name) return block;
    }
    throw std::runtime_error("unknown block: " + std::string(name));
}

/// The kernel that computes a whole block. A concatenation's inputs are stored where they belong, an output each.
inline KernelSpec fused_kernel(const Block &block) {
    const Operation &last = block.operations.back();
    const int outputs = last.kind == OperationKind::kConcat ? static_cast<int>(last.in.size()) : 1;
    const std::string name(block.name.view());
    if (block.step) return {"block_" + name, "chain", "block=" + name + " ", 1, 1, true};
    return {"block_" + name, "block", "block=" + name + " outs.size=" + std::to_string(outputs) + " ", 1,
            outputs,         true};
}

/// The kernels of a block's operations, in order.
inline std::vector<KernelSpec> unfused_kernels(const Block &block) {
    std::vector<KernelSpec> kernels;
    for (const Operation &op : block.operations) {
        if (op.kind != OperationKind::kConcat && op.kind != OperationKind::kSlice) {
            kernels.push_back(unfused_kernel(block, op));
            continue;
        }
        const TensorLayout to{op.out_channels, block.groups, op.out_size};
        for (const int in : op.in) kernels.push_back(copy_kernel(block.tensor(in), to));
    }
    return kernels;
}

}  // namespace shufflenet
