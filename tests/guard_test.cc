// Kernels stay within their buffers: each buffer lies flush with a page without access, at one end, then at the other.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "call.h"
#include "expected.h"
#include "guarded_memory.h"
#include "halide_hooks.h"
#include "isa.h"
#include "model_cases.h"
#include "networks/program.h"
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

/// Random weights, as a file; made once for all models of the network.
const std::vector<std::byte> &weight_file(const shufflenet_descriptor &d) {
    static std::map<std::string, std::vector<std::byte>> files;
    auto [entry, fresh] = files.try_emplace(d.program->graph);
    if (fresh) entry->second = reference::random_safetensors(graph_of(d), kSeed);
    return entry->second;
}

class Guard : public testing::TestWithParam<Case> {
  protected:
    void SetUp() override {
        if (!cpu_has(GetParam().isa)) GTEST_SKIP() << "this CPU does not have " << GetParam().isa;
        if (runs_once(d)) GTEST_SKIP() << "takes too long under an emulator";
    }
    const shufflenet_descriptor &d = *GetParam().model;
    const std::vector<std::byte> &file = weight_file(d);
    const ForcedIsa forced{GetParam().isa};
};

using Values = std::vector<float>;

/// A run's outputs in both layouts, from guarded buffers.
std::vector<Values> run_guarded(Model &model, const Values &images, int batch, Edge edge) {
    const GuardedArray<float> input(images.size(), edge);
    std::ranges::copy(images, input.span().begin());
    const std::vector<OutputInfo> infos = model.outputs();
    std::vector<std::unique_ptr<GuardedArray<float>>> outputs;
    std::vector<OutputRequest> requests;
    for (const OutputInfo &info : infos) {
        for (const Layout layout : {Layout::kNCHW, Layout::kNHWC}) {
            outputs.push_back(std::make_unique<GuardedArray<float>>(batch * info.shape.elements(), edge));
            requests.push_back({info.name, layout, outputs.back()->span()});
        }
    }
    const Status status = model.run(input.span(), batch, requests);
    EXPECT_TRUE(status.ok()) << status.message();
    std::vector<Values> found;
    for (const auto &output : outputs) found.emplace_back(output->span().begin(), output->span().end());
    return found;
}

TEST_P(Guard, ARunStaysWithinItsBuffers) {
    // One image more than threads can share out, and more than the fully connected layer computes at a time.
    constexpr int kThreads = 2, kBatch = 5;
    const Values images = images_for(graph_of(d), kBatch);
    std::vector<std::vector<Values>> found;
    for (const Edge edge : {Edge::kBegin, Edge::kEnd}) {
        const Guarded guarded(arrays, edge);
        Model model;
        ASSERT_TRUE(model.open(d, kThreads).ok());
        ASSERT_TRUE(model.load_weights(file, "random").ok());
        EXPECT_FALSE(arrays.pieces.empty());
        found.push_back(run_guarded(model, images, kBatch, edge));
    }
    EXPECT_TRUE(arrays.pieces.empty()) << "memory of a closed model";
    EXPECT_EQ(found[0], found[1]);
}

/// A program whose calls have memory of their own: what each writes, its table and its weights lie between forbidden
/// pages. What was not written is not a number.
class ScatteredProgram {
  public:
    ScatteredProgram(const shufflenet_program &program, const networks::Program &plan, std::span<const float> weights,
                     Edge edge)
        : packed_(program),
          plan_(plan),
          arena_(sizes([this](const shufflenet_call &call) { return written(call); }), edge, kLine),
          tables_(sizes([this](const shufflenet_call &call) { return shape(call).table; }), edge, kLine),
          weights_(sizes([this](const shufflenet_call &call) { return shape(call).weights; }), edge, kLine),
          calls_(program.calls, program.calls + program.calls_count),
          program_(program) {
        for (size_t i = 0; i < calls_.size(); ++i) move(i, weights);
        move_outputs();
        program_.calls = calls_.data();
        program_.tables = as<int32_t>(tables_, 0);
        program_.arena_floats = offset(arena_, calls_.size());
        program_.outputs = outputs_.data();
        moved_.floats = {as<float>(weights_, 0), static_cast<size_t>(offset(weights_, calls_.size()))};
    }
    const shufflenet_program &program() const { return program_; }
    const PackedWeights &weights() const { return moved_; }
    float *arena() const { return as<float>(arena_, 0); }

  private:
    static constexpr size_t kLine = sizeof(float) * kLineFloats;

    const shufflenet_shape &shape(const shufflenet_call &call) const { return packed_.shapes[call.kernel]; }
    /// Floats of the arena that a call writes.
    int written(const shufflenet_call &call) const {
        const shufflenet_shape &s = shape(call);
        return call.to == SHUFFLENET_TO_ARENA ? s.groups * s.planes * s.pixels * kPlane : 0;
    }
    /// A piece for each call, and an empty one, to know where they end.
    template <typename Count>
    std::vector<size_t> sizes(const Count &count) const {
        std::vector<size_t> all;
        for (int i = 0; i < packed_.calls_count; ++i) all.push_back(sizeof(float) * count(packed_.calls[i]));
        all.push_back(0);
        return all;
    }
    template <typename T>
    static T *as(const GuardedMemory &memory, size_t piece) {
        return reinterpret_cast<T *>(memory.piece(piece));
    }
    /// Of a piece, from the first one.
    static int offset(const GuardedMemory &memory, size_t piece) {
        return static_cast<int>((memory.piece(piece) - memory.piece(0)) / ptrdiff_t{sizeof(float)});
    }

    void move(size_t number, std::span<const float> weights) {
        const shufflenet_call &from = packed_.calls[number];
        shufflenet_call &to = calls_[number];
        // Lanes between layers are no places in the arena, nor is what a linear layer reads.
        const networks::TableLayout layout = table_layout(plan_.kernels[from.kernel]);
        for (int i = 0; i < shape(from).table; ++i) {
            const int entry = packed_.tables[from.table + i];
            const bool lane = i >= layout.first_lane() && i < layout.first_addend();
            const bool place = shape(from).in == SHUFFLENET_ARENA && !lane;
            as<int32_t>(tables_, number)[i] = place ? moved(entry) : entry;
        }
        to.table = offset(tables_, number);
        std::copy_n(weights.begin() + from.weights, shape(from).weights, as<float>(weights_, number));
        to.weights = offset(weights_, number);
        if (from.to != SHUFFLENET_TO_ARENA) return;
        std::fill_n(as<float>(arena_, number), written(from), NAN);
        to.out = offset(arena_, number);
        for (int at = from.out; at < from.out + written(from); at += kPlane) owners_[at] = static_cast<int>(number);
    }
    /// Where a channel lies now.
    int moved(int entry) const {
        const int owner = owners_.at(entry / kPlane * kPlane);
        return offset(arena_, owner) + entry - packed_.calls[owner].out;
    }
    void move_outputs() {
        outputs_.assign(packed_.outputs, packed_.outputs + packed_.outputs_count);
        for (shufflenet_output &output : outputs_) {
            if (output.offsets == nullptr) continue;
            std::vector<int32_t> &own = offsets_.emplace_back(output.offsets, output.offsets + output.channels);
            for (int32_t &channel : own) channel = moved(channel);
            output.offsets = own.data();
        }
    }

    const shufflenet_program &packed_;
    const networks::Program &plan_;
    GuardedMemory arena_, tables_, weights_;
    std::vector<shufflenet_call> calls_;
    std::vector<shufflenet_output> outputs_;
    std::list<std::vector<int32_t>> offsets_;
    std::map<int, int>
        owners_;  ///< Of each vector of the packed arena at its first pixel: the call that wrote it last.
    shufflenet_program program_;
    PackedWeights moved_;
};

/// One image through all calls.
Outputs run_calls(const ScatteredProgram &scattered, const shufflenet_kernels &kernels, const Values &image,
                  Edge edge) {
    const shufflenet_program &program = scattered.program();
    const GuardedArray<float> input(image.size(), edge), row(program.row_floats, edge);
    std::ranges::copy(image, input.span().begin());
    std::ranges::fill(row.span(), NAN);
    KernelError error;
    KernelContext context{.error = &error};
    const Callee callee{&program, &kernels, &scattered.weights()};
    const ImageMemory memory{input.span().data(), static_cast<int>(image.size()), scattered.arena(), row.span().data()};
    Outputs outputs(program.outputs_count);
    for (int i = 0; i < program.calls_count; ++i) {
        const shufflenet_call &call = program.calls[i];
        bool succeeded = false;
        if (i < program.image_calls) {
            succeeded = call_for_image(callee, call, memory, context);
        } else {
            const int classes = program.outputs[call.out].channels;
            const GuardedArray<float> logits(classes, edge);
            succeeded = call_for_group(callee, call, memory.row, 1, classes, logits.span().data(), context);
            outputs[call.out].assign(logits.span().begin(), logits.span().end());
        }
        EXPECT_TRUE(succeeded) << call.id << ": " << error.message.data();
    }
    for (int o = 0; o < program.outputs_count; ++o) {
        const shufflenet_output &output = program.outputs[o];
        if (output.offsets == nullptr) continue;
        outputs[o].resize(size_t(output.channels) * output.height * output.width);
        copy_output(output, memory.arena, Layout::kNCHW, outputs[o].data());
    }
    return outputs;
}

TEST_P(Guard, AKernelStaysWithinItsOperands) {
    const shufflenet_kernels *kernels = nullptr;
    ASSERT_TRUE(choose_kernels(d, &kernels).ok());
    const networks::Program plan = make_program(graph_of(d));
    ASSERT_EQ(static_cast<int>(plan.calls.size()), d.program->calls_count);
    Safetensors tensors;
    ASSERT_TRUE(Safetensors::parse(file, "random", &tensors).ok());
    PackedWeights weights;
    ASSERT_TRUE(pack_weights(tensors, "random", d.network, *d.program, &weights).ok());
    const Values image = images_for(graph_of(d), 1);
    Model model;
    ASSERT_TRUE(model.open(d).ok());
    ASSERT_TRUE(model.load_weights(file, "random").ok());
    // In an ordinary run, planes follow each other in the same memory.
    const Outputs expected = outputs_of(model, image, 1);
    for (const Edge edge : {Edge::kBegin, Edge::kEnd}) {
        const ScatteredProgram scattered(*d.program, plan, weights.floats, edge);
        const Guarded guarded_intermediates(intermediates, edge);
        EXPECT_EQ(run_calls(scattered, *kernels, image, edge), expected);
        EXPECT_TRUE(intermediates.pieces.empty()) << "memory of finished kernels";
    }
}

INSTANTIATE_TEST_SUITE_P(Models, Guard, testing::ValuesIn(all_cases()),
                         [](const auto &info) { return case_name(info.param); });

}  // namespace
}  // namespace shufflenet
