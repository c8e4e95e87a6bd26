// Programs against graphs: whatever a graph has, its program, executed naively, computes the same; and what plans cost.
#include "networks/program.h"

#include <gtest/gtest.h>

#include <cmath>

#include "networks/catalog.h"
#include "networks/graph_text.h"
#include "networks/shufflenet_v2.h"
#include "program_model.h"
#include "random_graphs.h"
#include "reference/random_weights.h"

namespace shufflenet::tests {

namespace {

using networks::Graph;
using networks::GraphBuilder;
using networks::Program;
using networks::square;

/// Both sum in double, in different orders: a few thousand roundings of 1e-16 each.
constexpr double kTolerance = 1e-11;

void expect_equal(const Program &program) {
    const std::vector<reference::LayerWeights> weights = weights_of(program.graph, 7);
    const int pixels = program.graph.input.pixels() * program.graph.image_channels;
    std::vector<float> image;
    for (int i = 0; i < pixels; ++i) image.push_back(float(reference::Stream(3, "image").normal(size_t(i), 1)));
    const std::vector<reference::Tensor> expected = reference::run(program.graph, weights, image);
    const std::vector<reference::Tensor> found = ProgramModel(program, weights).run(image);
    ASSERT_EQ(expected.size(), found.size());
    for (size_t o = 0; o < expected.size(); ++o) {
        ASSERT_EQ(expected[o].data.size(), found[o].data.size());
        for (size_t i = 0; i < expected[o].data.size(); ++i) {
            // Also what is not a number: nothing unwritten may be read.
            ASSERT_NEAR(expected[o].data[i], found[o].data[i], kTolerance * (1 + std::abs(expected[o].data[i])))
                << "output " << program.outputs[o].name << ", element " << i;
        }
    }
}

/// Smaller than published, so that it is quick: stages of 6x5 pixels and less.
Graph small(const networks::PublishedNetwork &row, std::vector<std::string> outputs = {}) {
    Graph graph = row.make({row.test ? 32 : 45, 37}, 11, outputs);
    graph.name = row.name;
    return graph;
}

TEST(Program, OfEveryPublishedNetworkComputesTheGraphAndMovesNothing) {
    for (const networks::PublishedNetwork &row : networks::published_networks()) {
        SCOPED_TRACE(row.name);
        for (const bool expand_apart : {false, true}) {
            const Program program = make_program(small(row), {.expand_apart = expand_apart});
            expect_equal(program);
            EXPECT_EQ(program.bytes_moved(), 0);
        }
    }
}

TEST(Program, WithFeaturesComputesTheGraph) {
    for (const char *name : {"shufflenet_v2_x0_5", "test_prime", "test_deep", "test_tiny"}) {
        SCOPED_TRACE(name);
        const networks::PublishedNetwork &row = *networks::find_published(name);
        for (const std::vector<std::string> &outputs :
             {std::vector<std::string>{"stage2", "stage4"}, {"conv5"}, {"conv5", "logits"}, {"stage3", "logits"}}) {
            const Program program = make_program(small(row, outputs));
            expect_equal(program);
            EXPECT_EQ(program.bytes_moved(), 0);
        }
    }
}

TEST(Program, WithoutClassifierHasNoneOfItsLayers) {
    const networks::ShuffleNetV2 backbone{{2, 3}, {24, 48, 96}};
    const Program program = make_program(shufflenet_v2(backbone, {64, 64}));
    ASSERT_EQ(program.outputs.size(), 1U);
    EXPECT_EQ(program.outputs[0].name, "stage3");
    EXPECT_EQ(program.image_calls, static_cast<int>(program.calls.size()));
    for (const networks::Layer &layer : program.graph.layers) EXPECT_NE(layer.id, "conv5");
    expect_equal(program);
}

/// The authors' own form: channels are taken in pairs, even ones stay, odd ones are convolved.
Graph authors_form(int units) {
    GraphBuilder b("authors", {20, 22});
    const networks::GraphBuilder::Module none{"w", ""};
    networks::Tensor x = b.convolution("stem", none, b.image(), 24, square(3, 2), networks::kRelu);
    const auto branch = [&](const std::string &id, const networks::Tensor &in, int stride) {
        const networks::Tensor wide = b.pointwise(id + "_pw1", none, in, 29, networks::kRelu);
        const networks::Tensor deep = b.depthwise(id + "_dw", none, wide, square(3, stride));
        return b.pointwise(id + "_pw2", none, deep, 58 - (stride == 2 ? 24 : 29), networks::kRelu);
    };
    const networks::Tensor halved = b.depthwise("left_dw", none, x, square(3, 2));
    x = GraphBuilder::concat({b.pointwise("left_pw", none, halved, 24, networks::kRelu), branch("d", x, 2)});
    for (int u = 0; u < units; ++u) {
        const networks::Tensor even = GraphBuilder::slice(x, 0, 29, 2), odd = GraphBuilder::slice(x, 1, 29, 2);
        x = GraphBuilder::concat({even, branch("u" + std::to_string(u), odd, 1)});
    }
    b.output("out", x);
    return b.take();
}

TEST(Program, OfTheAuthorsEvenOddFormMovesNothing) {
    const Program program = make_program(authors_form(6));
    expect_equal(program);
    EXPECT_EQ(program.bytes_moved(), 0);
}

TEST(Program, OfTheSumOfTwoUnitsComputesTheGraph) {
    GraphBuilder b("sum", {7, 5});
    const auto unit = [&](const std::string &id, const networks::Tensor &in) {
        const networks::Tensor deep = b.depthwise(id + "_dw", {id + "_dw", ""}, in, square(3));
        return b.pointwise(id + "_pw", {id + "_pw", ""}, deep, 20, networks::kNoActivation);
    };
    const networks::Tensor x = b.convolution("stem", {"stem", ""}, b.image(), 20, square(3), networks::kRelu);
    b.output("out", b.add("sum", unit("a", x), unit("b", x), networks::kRelu));
    const Program program = make_program(b.take());
    expect_equal(program);
    EXPECT_EQ(program.calls.size(), 3U);
}

TEST(Program, OfARandomGraphComputesTheGraph) {
    int copies = 0;
    for (unsigned seed = 0; seed < 400; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        const Graph graph = RandomGraph(seed).make(4 + int(seed % 14));
        for (const networks::PlanOptions &options :
             {networks::PlanOptions{}, {.fuse = false}, {.expand_apart = true}}) {
            const Program program = make_program(graph, options);
            expect_equal(program);
            if (testing::Test::HasFatalFailure()) return;
            copies += static_cast<int>(program.copies.size());
        }
    }
    // Channels that are added to others of their own kernel cannot lie where both want them.
    EXPECT_GT(copies, 0);
}

TEST(Program, IsTheSameEachTime) {
    const Graph graph = small(*networks::find_published("shufflenet_v1_x0_5"));
    const Program one = make_program(graph), two = make_program(graph);
    EXPECT_EQ(one.tables, two.tables);
    EXPECT_EQ(one.kernels, two.kernels);
}

TEST(Program, NeedsLittleMemory) {
    struct Row {
        const char *name;
        int kilobytes;  ///< Of activations, of 1000 bytes: at most. One block for each unit takes 2.5 times as much.
    };
    for (const Row &row : {Row{"shufflenet_v2_x0_5", 610},
                           {"shufflenet_v2_x1_0", 1010},
                           {"shufflenet_v2_x1_5", 1510},
                           {"shufflenet_v2_x2_0", 2010}}) {
        const auto graph = networks::published_network(row.name, {224, 224}, 1000);
        EXPECT_LE(make_program(*graph).arena_floats * 4.0 / 1000, row.kilobytes) << row.name;
    }
}

TEST(GraphText, GivesTheGraphBack) {
    for (const networks::PublishedNetwork &row : networks::published_networks()) {
        const Graph graph = small(row);
        const std::string text = graph_to_text(graph);
        EXPECT_EQ(graph_to_text(networks::graph_from_text(text)), text) << row.name;
    }
}

}  // namespace

}  // namespace shufflenet::tests
