#include "space.h"

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

/// Register tiles as wide as the part: the second one of a kernel's output channels.
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

std::vector<Gene> unit_genes(const networks::Kernel &kernel, const TargetSpec &target) {
    std::vector<Gene> genes = {tiles(target.registers), numbers("block_rows", row_counts(kernel.out.height)),
                               columns(kernel.out.width)};
    const std::vector<ChannelPart> parts = out_parts(kernel, target.vectors());
    if (parts.size() > 1) genes.push_back(tail_tiles(parts[1], target));
    if (kernel.expands()) genes.push_back(numbers("order", {1, 2}));
    return genes;
}

}  // namespace

std::vector<TunedKernel> kernels_of(const networks::Program &program) {
    std::vector<TunedKernel> kernels;
    for (const networks::Call &call : program.calls) {
        const auto same = std::ranges::find(kernels, call.kernel, &TunedKernel::number);
        if (same != kernels.end()) {
            ++same->calls;
            continue;
        }
        double multiply_adds = 0;
        for (const int layer : call.layers) {
            multiply_adds += static_cast<double>(program.graph.layers[layer].flops());
        }
        const networks::Kernel &shape = program.kernels[call.kernel];
        kernels.push_back({call.kernel, key(shape), call.id, 1, multiply_adds, shape});
    }
    return kernels;
}

std::vector<Gene> genes_of(const networks::Kernel &kernel, const TargetSpec &target) {
    using Kind = networks::KernelKind;
    switch (kernel.kind) {
    case Kind::kStem:
        return {tiles(target.registers), numbers("strip_rows", row_counts(kernel.out.height))};
    case Kind::kUnit:
        return unit_genes(kernel, target);
    case Kind::kPointwise:
    case Kind::kPooledPointwise:
    case Kind::kConvolution:
        return {tiles(target.registers)};
    case Kind::kDepthwise:
    case Kind::kMaxPool:
    case Kind::kAveragePool:
        return {columns(kernel.out.width)};
    default:
        return {};
    }
}

}  // namespace shufflenet::bench
