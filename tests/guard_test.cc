// Kernels stay within their buffers: each buffer lies flush with a page without access, at one end, then at the other.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "backbone.h"
#include "emulated.h"
#include "guarded_memory.h"
#include "halide_hooks.h"
#include "model_cases.h"
#include "reference/random_weights.h"
#include "safetensors.h"
#include "shufflenet/model.h"

namespace shufflenet {
namespace {

/// What the linker's --wrap puts in place of the runtime's memory: while an edge is set, everything is guarded.
struct Placement {
    std::optional<Edge> edge;
    std::mutex mutex;
    std::map<void *, std::unique_ptr<GuardedMemory>> pieces;

    /// The address of a piece, or what is `before` bytes before it.
    void *allocate(size_t size, size_t alignment, size_t before = 0) {
        auto memory = std::make_unique<GuardedMemory>(size, *edge, alignment);
        void *begin = memory->piece() - before;
        const std::lock_guard lock(mutex);
        pieces.emplace(begin, std::move(memory));
        return begin;
    }
    bool release(void *begin) {
        const std::lock_guard lock(mutex);
        return pieces.erase(begin) > 0;
    }
};
Placement arrays, intermediates;

}  // namespace
}  // namespace shufflenet

extern "C" {
// An AlignedArray asks for a line more than it uses, to begin at one. Here it begins one byte behind what it gets, so
// that it ends where the memory ends.
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size) {
    using shufflenet::arrays;
    constexpr size_t kLine = sizeof(float) * shufflenet::kLineFloats;
    return arrays.edge ? arrays.allocate(count * size - kLine, kLine, 1) : __real_calloc(count, size);
}
void __real_free(void *memory);
void __wrap_free(void *memory) {
    if (memory != nullptr && !shufflenet::arrays.release(memory)) __real_free(memory);
}

// Without huge pages every array is a piece of its own.
int __real_madvise(void *memory, size_t size, int advice);
int __wrap_madvise(void *memory, size_t size, int advice) {
    return shufflenet::arrays.edge ? -1 : __real_madvise(memory, size, advice);
}

// Halide asks for memory that is aligned to the longest vector.
void *SHUFFLENET_REAL_HALIDE(malloc)(void *context, size_t size);
void *SHUFFLENET_WRAP_HALIDE(malloc)(void *context, size_t size) {
    using shufflenet::intermediates;
    constexpr size_t kAlignment = 64;
    return intermediates.edge ? intermediates.allocate(size, kAlignment)
                              : SHUFFLENET_REAL_HALIDE(malloc)(context, size);
}
void SHUFFLENET_REAL_HALIDE(free)(void *context, void *memory);
void SHUFFLENET_WRAP_HALIDE(free)(void *context, void *memory) {
    if (memory != nullptr && !shufflenet::intermediates.release(memory)) {
        SHUFFLENET_REAL_HALIDE(free)(context, memory);
    }
}
}

namespace shufflenet {
namespace {

class Guarded {
  public:
    Guarded(Placement &placement, Edge edge) : placement_(placement) { placement_.edge = edge; }
    Guarded(const Guarded &) = delete;
    Guarded &operator=(const Guarded &) = delete;
    ~Guarded() { placement_.edge.reset(); }

  private:
    Placement &placement_;
};

constexpr uint64_t kSeed = 13;

/// Random weights, as a file; made once for all models of the network.
const std::vector<std::byte> &weight_file(const Network &network, int classes) {
    static std::map<std::pair<std::string_view, int>, std::vector<std::byte>> files;
    auto [entry, fresh] = files.try_emplace({network.name, classes});
    if (fresh) entry->second = reference::random_safetensors(network, classes, kSeed);
    return entry->second;
}

class Guard : public testing::TestWithParam<Case> {
  protected:
    void SetUp() override {
        if (!cpu_has(GetParam().isa)) GTEST_SKIP() << "this CPU does not have " << GetParam().isa;
        if (runs_once(d)) GTEST_SKIP() << "takes too long under an emulator";
    }
    const shufflenet_descriptor &d = *GetParam().model;
    const Network &network = *find_network(d.network);
    const std::vector<std::byte> &file = weight_file(network, d.classes);
    const ForcedIsa forced{GetParam().isa};
};

using Values = std::vector<float>;

/// A run's logits and features, from guarded buffers.
std::vector<Values> run_guarded(Model &model, const Values &image, int batch, Edge edge) {
    const GuardedArray<float> input(image.size(), edge);
    std::ranges::copy(image, input.span().begin());
    std::vector<std::unique_ptr<GuardedArray<float>>> outputs;
    const auto add_output = [&](size_t size) {
        outputs.push_back(std::make_unique<GuardedArray<float>>(size, edge));
        return outputs.back()->span();
    };
    const std::span<float> logits = add_output(size_t(batch) * model.classes());
    std::vector<FeatureRequest> requests;
    for (const Feature feature : {Feature::kStage2, Feature::kStage3, Feature::kStage4, Feature::kConv5}) {
        for (const Layout layout : {Layout::kNCHW, Layout::kNHWC}) {
            const size_t size = batch * model.feature_shape(feature).elements();
            requests.push_back({feature, layout, add_output(size)});
        }
    }
    const Status status = model.run(input.span(), batch, logits, requests);
    EXPECT_TRUE(status.ok()) << status.message();
    std::vector<Values> found;
    for (const auto &output : outputs) found.emplace_back(output->span().begin(), output->span().end());
    return found;
}

TEST_P(Guard, ARunStaysWithinItsBuffers) {
    // One image more than threads can share out, and more than the fully connected layer computes at a time.
    constexpr int kThreads = 2, kBatch = 5;
    const Values image = reference::random_input({d.height, d.width}, kBatch, kSeed);
    std::vector<std::vector<Values>> found;
    for (const Edge edge : {Edge::kBegin, Edge::kEnd}) {
        const Guarded guarded(arrays, edge);
        Model model;
        ASSERT_TRUE(model.open(d, kThreads).ok());
        ASSERT_TRUE(model.load_weights(file, "random").ok());
        EXPECT_FALSE(arrays.pieces.empty());
        found.push_back(run_guarded(model, image, kBatch, edge));
    }
    EXPECT_TRUE(arrays.pieces.empty()) << "memory of a closed model";
    EXPECT_EQ(found[0], found[1]);
}

/// The arena's tensors apart, each between forbidden pages.
class ScatteredArena {
  public:
    ScatteredArena(const ArenaLayout &packed, Edge edge)
        : memory_(sizes(packed), edge, sizeof(float) * kLineFloats), layout_(packed) {
        layout_.stem = 0;
        for (int s = 0; s < kStages; ++s) layout_.stage[s] = offset(1 + s);
        layout_.conv5 = offset(1 + kStages);
        layout_.pooled = offset(2 + kStages);
    }
    float *data() const { return reinterpret_cast<float *>(memory_.piece()); }
    const ArenaLayout &layout() const { return layout_; }

  private:
    static std::vector<size_t> sizes(const ArenaLayout &a) {
        const int offsets[] = {a.stem, a.stage[0], a.stage[1], a.stage[2], a.conv5, a.pooled, a.size};
        std::vector<size_t> sizes;
        for (size_t i = 0; i + 1 < std::size(offsets); ++i) {
            sizes.push_back(sizeof(float) * size_t(offsets[i + 1] - offsets[i]));
        }
        return sizes;
    }
    int offset(size_t piece) const {
        return static_cast<int>((memory_.piece(piece) - memory_.piece()) / ptrdiff_t{sizeof(float)});
    }
    GuardedMemory memory_;
    ArenaLayout layout_;
};

TEST_P(Guard, AKernelStaysWithinItsTensors) {
    const shufflenet_kernels *kernels = nullptr;
    ASSERT_TRUE(choose_kernels(d, &kernels).ok());
    Safetensors tensors;
    ASSERT_TRUE(Safetensors::parse(file, "random", &tensors).ok());
    const Values image = reference::random_input({d.height, d.width}, 1, kSeed);
    std::vector<Values> found;
    for (const Edge edge : {Edge::kBegin, Edge::kEnd}) {
        const Guarded guarded_arrays(arrays, edge), guarded_intermediates(intermediates, edge);
        Backbone backbone = make_backbone(d, *kernels, network);
        const ScatteredArena arena(backbone.arena, edge);
        backbone.arena = arena.layout();
        PackedWeights weights;
        ASSERT_TRUE(pack_weights(tensors, "random", network, backbone.input, kPanelFloats, &weights).ok());
        const GuardedArray<float> input(image.size(), edge), logits(d.classes, edge);
        std::ranges::copy(image, input.span().begin());
        float *pooled = arena.data() + backbone.arena.pooled;

        KernelError error;
        KernelContext context{.error = &error};
        ImageRun run(backbone, weights, arena.data(), context);
        EXPECT_TRUE(run.stem(input.span().data()) && run.stage(2) && run.stage(3) && run.stage(4) && run.conv5() &&
                    run.pool(pooled) && run.fully_connected(pooled, 1, logits.span().data()))
            << run.failed().view() << ": " << error.message.data();
        EXPECT_TRUE(intermediates.pieces.empty()) << "memory of finished kernels";
        found.emplace_back(logits.span().begin(), logits.span().end());
    }
    EXPECT_EQ(found[0], found[1]);
}

INSTANTIATE_TEST_SUITE_P(Models, Guard, testing::ValuesIn(all_cases()),
                         [](const auto &info) { return case_name(info.param); });

}  // namespace
}  // namespace shufflenet
