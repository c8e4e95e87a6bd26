// The guidelines' experiments: what they are as graphs, and what fusing makes of them.
#include <gtest/gtest.h>

#include <algorithm>

#include "bench/guidelines/experiments.h"
#include "networks/catalog.h"

namespace shufflenet::bench {
namespace {

size_t count(const networks::Graph &graph, networks::LayerKind kind) {
    return size_t(std::ranges::count(graph.layers, kind, &networks::Layer::kind));
}

TEST(Experiments, HaveTheRowsOfTheirTables) {
    for (const TableSpec &table : kTables) {
        const auto rows = std::ranges::count(experiments(), table.name, &Experiment::table);
        EXPECT_EQ(rows, table.widths * (table.name == "g3" ? 5 : 4)) << table.name;
    }
}

TEST(Experiments, RepeatTheirBlock) {
    for (const Experiment &e : experiments()) {
        SCOPED_TRACE(e.name);
        const size_t one = e.graph(1).layers.size() - 1;
        EXPECT_EQ(e.graph(kRepeats).layers.size(), 1 + kRepeats * one);
        EXPECT_EQ(e.graph(kRepeats).outputs[0].tensor.count(), e.channels);
    }
}

TEST(Experiments, CostWhatEquationOneSays) {
    // c1 = c2 is the lower bound of a convolution's MAC.
    const Experiment &e = experiments().front();
    const networks::Layer layer = e.layers().front();
    EXPECT_NEAR(double(layer.mac()), networks::mac_lower_bound(layer.out.pixels(), double(layer.flops())), 1);
}

TEST(Framework, HasLayersForWhatIsFused) {
    for (const char *name : kDecomposed) {
        SCOPED_TRACE(name);
        const networks::Graph graph = framework_network(name), all_fused = fused(graph);
        for (const networks::Layer &layer : graph.layers) {
            const bool own = layer.kind == networks::LayerKind::kActivation;
            EXPECT_EQ(layer.activation != networks::kNoActivation, own) << layer.id;
        }
        EXPECT_EQ(count(all_fused, networks::LayerKind::kActivation), 0U);
        EXPECT_EQ(count(all_fused, networks::LayerKind::kCopy), 0U);
        EXPECT_EQ(total_cost(all_fused).flops, total_cost(graph).flops);
        const networks::Program program = make_program(all_fused);
        EXPECT_EQ(program.bytes_moved(), 0);
        // As published, fused.
        const networks::PublishedNetwork &row = *networks::find_published(name);
        const auto published = make_program(row.make({row.crop, row.crop}, networks::kDefaultClasses, {}));
        EXPECT_EQ(program.kernels.size(), published.kernels.size());
    }
}

TEST(Framework, CopiesAreInRunsUnlessTheyShuffle) {
    for (const networks::Program &program : measured_programs("quick")) {
        for (const networks::Call &call : program.calls) {
            const networks::Kernel &kernel = program.kernels[call.kernel];
            if (kernel.kind != networks::KernelKind::kCopy) continue;
            const bool gathers = call.id.ends_with("_shuffle") || call.id.ends_with("_copy");
            EXPECT_TRUE(kernel.in_planes > 0 || gathers) << program.graph.name << ": " << call.id;
        }
    }
}

}  // namespace
}  // namespace shufflenet::bench
