#include "tuning_space.h"

#include <algorithm>
#include <set>

namespace shufflenet::bench {

namespace {

constexpr int kMostTileVectors = 7;
// Fewer accumulators leave a multiply-add's latency uncovered.
constexpr int kFewestAccumulators = 7;

/// Register tiles that leave a register for each vector of weights and one for the broadcast.
Gene tiles(int registers) {
    Gene gene{"tile", {{}}};
    for (int vectors = 1; vectors <= kMostTileVectors; ++vectors) {
        for (int pixels = 2; pixels * vectors + vectors + 1 <= registers; ++pixels) {
            if (pixels * vectors >= kFewestAccumulators) {
                gene.values.push_back({{"tile_pixels", pixels}, {"tile_vectors", vectors}});
            }
        }
    }
    return gene;
}

Gene numbers(const std::string &name, const std::set<int> &values) {
    Gene gene{name, {{}}};
    for (const int value : values) {
        if (value > 0) gene.values.push_back({{name, value}});
    }
    return gene;
}

/// Register tiles as wide as the part: the second of a branch's output channels.
Gene tail_tiles(const ChannelPart &part, const TargetSpec &target) {
    const int vectors = part.lanes / std::min(part.vec, target.vec);
    std::set<int> pixels;
    for (int p = 2; p * vectors + vectors + 1 <= target.registers; ++p) {
        if (p * vectors >= kFewestAccumulators) pixels.insert(p);
    }
    return numbers("tail_pixels", pixels);
}

/// Parts of `height` rows that are worth handing out.
std::set<int> row_counts(int height) {
    std::set<int> rows;
    for (int parts = 1; parts <= 8; ++parts) rows.insert((height + parts - 1) / parts);
    return rows;
}

Gene columns(int width) {
    std::set<int> values;
    for (int count = 2; count <= std::min(width, 28); ++count) {
        if (width % count == 0 || count <= 8) values.insert(count);
    }
    return numbers("depthwise_columns", values);
}

}  // namespace

std::vector<Kernel> kernels_of(const Network &network) {
    std::vector<Kernel> kernels = {{"stem", "stem", {}, 1}};
    for (int s = 0; s < kStages; ++s) {
        const std::string number = std::to_string(s + 2);
        const std::string stage = "stage=" + number;
        kernels.push_back({"stage" + number + "_down_branch1", "branch1", {stage}, 1});
        kernels.push_back({"stage" + number + "_down_branch2", "branch2", {stage, "downsample=true"}, 1});
        if (network.units[s] > 1)
            kernels.push_back({"stage" + number + "_basic", "branch2", {stage}, network.units[s] - 1});
    }
    kernels.push_back({"conv5_pool", "conv5_pool", {}, 1});
    kernels.push_back({"fc", "fc", {}, 1});
    return kernels;
}

std::vector<Gene> genes_of(const Kernel &kernel, const Network &network, Size input, const TargetSpec &target) {
    const int registers = target.registers;
    if (kernel.generator == "fc") return {};
    if (kernel.generator == "conv5_pool") return {tiles(registers)};
    if (kernel.generator == "stem") {
        return {tiles(registers), numbers("strip_rows", row_counts(stem_size(input).height))};
    }
    const int stage = kernel.name.at(5) - '0';
    const StageShape shape = stage_shape(network, input, stage);
    const bool down = kernel.name.find("_down_") != std::string::npos;
    const std::vector<ChannelPart> parts = kernel.generator == "branch1"
                                               ? branch1_parts(network, input, stage, kPanelFloats, target.vectors())
                                               : branch2_parts(shape, down, kPanelFloats, target.vectors());
    std::vector<Gene> genes = {tiles(registers), numbers("block_rows", row_counts(shape.out.height)),
                               columns(shape.out.width)};
    if (parts.size() > 1) genes.push_back(tail_tiles(parts[1], target));
    if (kernel.generator == "branch2") genes.push_back(numbers("order", {1, 2}));
    return genes;
}

std::vector<Kernel> all_device_kernels() {
    std::vector<Kernel> kernels = {{"stem", "batched_stem", {}, 1}};
    for (int s = 0; s < kStages; ++s) {
        const std::string number = std::to_string(s + 2);
        std::vector<std::string> parameters = {"stage=" + number};
        kernels.push_back({"stage" + number + "_down_branch1", "batched_branch1", parameters, 1});
        for (const std::string unit : {"_basic_", "_down_"}) {
            if (unit == "_down_") parameters.emplace_back("downsample=true");
            for (const std::string part : {"branch2", "expand", "project"}) {
                std::string name = "stage" + number;
                name += unit + part;
                kernels.push_back({name, "batched_" + part, parameters, 1});
            }
        }
    }
    kernels.push_back({"conv5", "batched_conv5", {}, 1});
    kernels.push_back({"conv5_pool", "batched_conv5_pool", {}, 1});
    kernels.push_back({"fc", "fc", {}, 1});
    return kernels;
}

std::vector<Kernel> device_kernels_of(const Network &network, Size input, const DeviceSpec &device) {
    std::vector<Kernel> kernels;
    for (Kernel &kernel : all_device_kernels()) {
        // A run without features does not call it.
        if (kernel.name == "conv5") continue;
        if (kernel.name.starts_with("stage")) {
            const int stage = kernel.name.at(5) - '0';
            const bool down = kernel.name.find("_down_") != std::string::npos;
            kernel.calls = down ? 1 : network.units[stage - 2] - 1;
            const bool fits = fused_rows(unit_shape(stage_shape(network, input, stage), down), device.shared_bytes) > 0;
            if (kernel.calls == 0 || (kernel.generator == "batched_branch2" && !fits)) continue;
        }
        kernels.push_back(std::move(kernel));
    }
    return kernels;
}

std::vector<Gene> device_genes_of(const Kernel &kernel, const Network &network, Size input) {
    if (kernel.generator == "fc") return {};
    if (kernel.generator == "batched_stem") return {numbers("tile_pixels", {4, 7, 8, 14, 16, 28})};
    const Gene pixels = numbers("tile_pixels", {2, 3, 4, 5, 6, 7, 8, 10, 14});
    if (kernel.generator == "batched_branch2") {
        const Size out = stage_shape(network, input, kernel.name.at(5) - '0').out;
        return {pixels, numbers("strip_rows", row_counts(out.height))};
    }
    // Lanes of a block, as vectors of a thread's four.
    return {pixels, numbers("tile_vectors", {4, 8, 12, 16, 24, 32})};
}

}  // namespace shufflenet::bench
