// From a graph to numbers without a library: random graphs are planned, their kernels compiled in memory, and their
// calls run one after another over one arena, as the runtime would.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <ostream>

#include "generators/pipeline.h"
#include "networks/targets.h"
#include "program_model.h"
#include "random_graphs.h"

namespace shufflenet::tests {
namespace {

using generators::KernelPipeline;
using networks::Call;
using networks::Kernel;
using networks::Program;

struct How {
    std::string target;
    bool reference;
    friend std::ostream &operator<<(std::ostream &out, const How &how) { return out << how.target; }
};

Halide::Target jit_target(const How &how) {
    return Halide::Target(std::string(find_target(how.target)->halide)).with_feature(Halide::Target::JIT);
}

/// A dense array, seen with (extent, stride) dimensions.
template <typename T>
Halide::Buffer<T> view(T *data, const std::vector<std::pair<int, int>> &dimensions) {
    std::vector<halide_dimension_t> shape;
    for (const auto &[extent, stride] : dimensions) shape.emplace_back(0, extent, stride);
    return Halide::Buffer<T>(data, static_cast<int>(shape.size()), shape.data());
}
template <typename T>
Halide::Buffer<T> line(T *data, size_t count) {
    return view(data, {{static_cast<int>(count), 1}});
}

/// Floats that begin at a cache line, not numbers before something is written.
class Floats {
  public:
    explicit Floats(size_t count) : memory_(count + kLineFloats, std::numeric_limits<float>::quiet_NaN()) {
        constexpr size_t kLine = kLineFloats * sizeof(float);
        const size_t past = reinterpret_cast<uintptr_t>(memory_.data()) % kLine;
        values_ = std::span(memory_).subspan((kLine - past) % kLine / sizeof(float), count);
    }
    Floats(const Floats &) = delete;
    Floats &operator=(const Floats &) = delete;
    std::span<float> values() { return values_; }

  private:
    std::vector<float> memory_;
    std::span<float> values_;
};

/// A program's kernels. Graphs have kernels in common.
class Compiled {
  public:
    explicit Compiled(const How &how) : how_(how), target_(jit_target(how)) {}

    void run(const Kernel &kernel, const Halide::Buffer<float> &in, const Halide::Buffer<int> &table,
             const Halide::Buffer<float> &weights, float *to) {
        KernelPipeline &k = pipeline(kernel);
        k.in.set(in);
        k.table.set(table);
        k.weights.set(weights);
        const int pixels = kernel.out.pixels();
        std::vector<Halide::Buffer<>> out;
        for (size_t i = 0; i < 2; ++i) {
            const ChannelPart part = i < k.parts.size() ? k.parts[i] : ChannelPart{0, 0, 0};
            out.emplace_back(
                view(to + size_t(part.first) * pixels, {{std::min(part.lanes, kPlane), 1},
                                                        {pixels, kPlane},
                                                        {planes_of(part.lanes), kPlane * pixels},
                                                        {kernel.groups, kernel.planes() * kPlane * pixels}}));
        }
        k.pipeline.realize(Halide::Realization(out), target_);
    }

  private:
    KernelPipeline &pipeline(const Kernel &kernel) {
        std::unique_ptr<KernelPipeline> &made = made_[kernel];
        if (made == nullptr) {
            const int fma_units = find_target(how_.target)->fma_units;
            made = std::make_unique<KernelPipeline>(
                generators::make_pipeline(kernel, target_, fma_units, {}, how_.reference));
        }
        return *made;
    }

    How how_;
    Halide::Target target_;
    std::map<Kernel, std::unique_ptr<KernelPipeline>> made_;
};

/// A program's outputs.
std::vector<reference::Tensor> run(Compiled &compiled, Program &program, std::span<float> weights,
                                   std::span<float> image) {
    Floats arena(program.arena_floats);
    float *memory = arena.values().data();
    for (const Call &call : program.calls) {
        const Kernel &kernel = program.kernels[call.kernel];
        EXPECT_EQ(call.destination, networks::Destination::kArena);
        const bool of_image = kernel.kind == networks::KernelKind::kStem;
        compiled.run(kernel, of_image ? line(image.data(), image.size()) : line(memory, arena.values().size()),
                     line(program.tables.data() + call.table, networks::table_layout(kernel).size()),
                     line(weights.data() + call.weights, networks::weight_floats(kernel)), memory + call.out);
    }
    std::vector<reference::Tensor> outputs;
    for (const networks::ProgramOutput &o : program.outputs) {
        reference::Tensor &tensor = outputs.emplace_back(o.channels, o.size.height, o.size.width);
        for (int c = 0; c < o.channels; ++c) {
            for (int p = 0; p < tensor.pixels(); ++p) tensor.plane(c)[p] = memory[o.offsets[c] + p * kPlane];
        }
    }
    return outputs;
}

class RandomGraphs : public testing::TestWithParam<How> {
  protected:
    void SetUp() override {
        const Halide::Target target = jit_target(GetParam()), host = Halide::get_host_target();
        const bool more = target.has_feature(Halide::Target::AVX2) && !host.has_feature(Halide::Target::AVX2);
        if (target.arch != host.arch || more) GTEST_SKIP() << "not this processor's";
    }
};

// Of the largest value of an output. Single precision has 6e-8, and about a dozen layers of up to 400 products lose two
// decimal digits of it.
constexpr double kTolerance = 1e-5;

TEST_P(RandomGraphs, ComputeWhatTheirLayersDo) {
    Compiled compiled(GetParam());
    for (unsigned seed = 0; seed < 40; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        const networks::Graph graph = RandomGraph(seed).make(2 + int(seed % 6));
        Program program = make_program(graph);
        // Kernels read floats, and so does the reference.
        std::vector<reference::LayerWeights> layers = weights_of(graph, seed);
        for (reference::LayerWeights &layer : layers) {
            for (double &value : layer.weights) value = static_cast<float>(value);
            for (double &value : layer.bias) value = static_cast<float>(value);
        }
        const std::vector<double> exact = packed(program, layers);
        Floats weights(exact.size());
        std::ranges::copy(exact, weights.values().begin());
        std::vector<float> image = reference::random_input(graph.input, 1, seed);

        const std::vector<reference::Tensor> expected = reference::run(graph, layers, image);
        const std::vector<reference::Tensor> found = run(compiled, program, weights.values(), image);
        for (size_t o = 0; o < expected.size(); ++o) {
            double most = 0;
            for (const double value : expected[o].data) most = std::max(most, std::abs(value));
            for (size_t i = 0; i < expected[o].data.size(); ++i) {
                // Also what is not a number: nothing unwritten may be read.
                ASSERT_NEAR(found[o].data[i], expected[o].data[i], kTolerance * most)
                    << "output " << program.outputs[o].name << ", element " << i;
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Schedules, RandomGraphs,
                         testing::Values(How{"sse41", true}, How{"avx2", false}, How{"neon", true}, How{"neon", false}),
                         [](const auto &info) {
                             return info.param.target + (info.param.reference ? "_reference" : "_tuned");
                         });

}  // namespace
}  // namespace shufflenet::tests
