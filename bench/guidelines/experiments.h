// The paper's experiments (section 2, Tables 1 to 4, appendix Table 1b), as graphs, with the figures that it measured;
// and two cells of networks that it has in mind in guideline G3. Channels are those of its ARM columns, because this,
// too, is a processor that computes one image at a time.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "framework.h"
#include "networks/program.h"

namespace shufflenet::bench {

/// Each block is repeated so often, one after another.
inline constexpr int kRepeats = 10;

/// Figures of one row of the paper's tables at its three widths: GPU (GTX 1080Ti, batches/s) and ARM (Snapdragon 810,
/// images/s). Ma, Zhang, Zheng, Sun: ShuffleNet V2, ECCV 2018. Zeros: the paper has no such row.
struct PaperRow {
    std::array<double, 3> gpu{}, arm{};
};

/// One row of a table at one width.
struct Experiment {
    std::string_view table;  ///< "g1", "g2", "g3", "g4", "cells", "units56" or "units28".
    std::string_view row;    ///< As the paper names it.
    int width = 0;           ///< Which of the paper's three: 0, 1, 2 for x1, x2, x4.
    std::string name;        ///< "g1_32_32_x1"
    int channels = 0;        ///< Of its input, and of its output.
    Size size{};
    std::function<networks::Tensor(Framework &, const networks::Tensor &)> block;
    PaperRow paper;

    /// As a framework computes it: a convolution that makes the input from an image, then the block, `repeats` times.
    networks::Graph graph(int repeats) const;
    /// Of one block.
    networks::Cost cost() const;
    /// The layers of one block.
    std::vector<networks::Layer> layers() const;
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

/// All rows of all tables, in the order of the tables. Throws std::logic_error where FLOPs are not as equal as a table
/// says.
const std::vector<Experiment> &experiments();

/// The networks of the paper's figure 2, and ShuffleNetV2.
inline constexpr std::array kDecomposed = {"shufflenet_v2_x1_0", "shufflenet_v1_x1_0", "mobilenet_v2_x1_0"};

/// What time goes to, as the paper's figure 2 has it.
inline constexpr std::array<std::string_view, 5> kTimeParts = {"conv", "depthwise", "element_wise", "data_movement",
                                                               "other"};
/// Which of them a layer's is.
size_t time_part(const networks::Layer &layer);

/// The programs of an experiment: a kernel for each layer; and fused as this library does it.
networks::Program unfused_program(const networks::Graph &graph);
networks::Program fused_program(const networks::Graph &graph);

/// The programs whose kernels are measured: of the experiments, "quick" only those of the first width, and with "all"
/// the networks that are decomposed.
std::vector<networks::Program> measured_programs(std::string_view set);

}  // namespace shufflenet::bench
