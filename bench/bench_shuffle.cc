// What the channel schedule saves: shuffle/<model>/stage<N>/<slots|fused>/threads:<T>, in real time, weights warm: all
// basic units of a stage, one after another.
//   slots: the library's kernels, which read channels where earlier units left them, and move none;
//   fused: kernels of the plain layout, which store all channels concatenated and shuffled.
// Both are computed with the same schedule and tuned numbers. Counter: error, the worst difference between the two as a
// share of the outputs' range.
#include <HalideRuntime.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <stdexcept>

#include "benchmark_main.h"
#include "networks/targets.h"
#include "runtime/src/isa.h"
#include "shuffled_kernels.h"
#include "stages.h"

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;

// The two sum over a unit's input channels in another order, which rounds differently: by up to 7e-7 of the range where
// there are 488, and a channel in the wrong place makes a difference like the range itself.
constexpr double kTolerance = 1e-6;

/// A dense tensor (lanes, pixels), or a line, as kernels take it.
class Tensor {
  public:
    Tensor(const float *data, int lanes, int pixels, int stride) : dims_{{0, lanes, 1}, {0, pixels, stride}} {
        // Halide's buffers are not const, but kernels write to their outputs only.
        buffer_.host = reinterpret_cast<uint8_t *>(const_cast<float *>(data));
        buffer_.type = halide_type_t(halide_type_float, 32);
        buffer_.dimensions = 2;
        buffer_.dim = dims_;
    }
    explicit Tensor(const AlignedArray<float> &line) : Tensor(line.data(), static_cast<int>(line.size()), 1, 0) {
        buffer_.dimensions = 1;
    }
    Tensor(const Tensor &) = delete;
    Tensor &operator=(const Tensor &) = delete;

    halide_buffer_t *get() { return &buffer_; }

  private:
    halide_dimension_t dims_[2];
    halide_buffer_t buffer_{};
};

void allocate(AlignedArray<float> &array, int size) {
    if (!array.allocate(size)) throw std::bad_alloc();
}

/// The basic units of a stage in the plain layout, with the weights of a model in slots that has run its image.
class PlainStage {
  public:
    PlainStage(Pieces &pieces, int number, ShuffledUnit *kernel)
        : pieces_(pieces),
          kernel_(kernel),
          block_(pieces.backbone().blocks[number - 2]),
          plan_(make_stage_plan(block_.channels, block_.blocks - 1)),
          slots_(pieces.arena() + pieces.backbone().arena.stage[number - 2]),
          lanes_(shuffled_lanes(block_.channels, kPanelFloats)),
          parts_(two_parts(channel_parts(block_.channels, kPanelFloats, find_target(pieces.isa())->vectors()))) {
        for (AlignedArray<float> &tensor : tensors_) allocate(tensor, lanes_ * block_.pixels);
        const std::vector<UnitWeights> &units = pieces.weights().stages[number - 2];
        blobs_.resize(units.size());
        for (size_t u = 1; u < units.size(); ++u) unpermute(units[u].branch2.weights, static_cast<int>(u));
        verify();
    }

    double error() const { return error_; }

    void run() {
        for (int u = 1; u < plan_.units; ++u) run_unit(u);
    }

  private:
    /// The input stays as it is: were it overwritten, values would decay to denormals or grow from run to run.
    AlignedArray<float> &input_of(int unit) { return unit == 1 ? tensors_[0] : tensors_[1 + unit % 2]; }
    AlignedArray<float> &output_of(int unit) { return input_of(unit + 1); }

    void run_unit(int u) {
        float *to = output_of(u).data();
        const auto stored = [&](const ChannelPart &part) { return to + 2 * part.first; };
        Tensor in(input_of(u).data(), lanes_, block_.pixels, lanes_);
        Tensor weights(blobs_[u]);
        Tensor out(stored(parts_[0]), 2 * parts_[0].lanes, block_.pixels, lanes_);
        Tensor tail(stored(parts_[1]), 2 * parts_[1].lanes, block_.pixels, lanes_);
        KernelContext &context = pieces_.context();
        if (kernel_(&context, in.get(), weights.get(), out.get(), tail.get()) != 0 || context.error->failed) {
            throw std::runtime_error(std::string("the shuffled unit: ") + context.error->message.data());
        }
    }

    /// A unit's weights in canonical order of channels.
    void unpermute(const AlignedArray<float> &from, int u) {
        const int c = block_.channels;
        const Branch2Layout at = branch2_layout(c, c, kPanelFloats);
        allocate(blobs_[u], at.size());
        const float *source = from.data();
        float *blob = blobs_[u].data();
        std::copy_n(source, at.size(), blob);
        const std::vector<int> order = summation_order(plan_.inputs[u], basic_fours(plan_));
        const std::vector<int> &stored = plan_.index_of[u + 1];
        for (int co = 0; co < c; ++co) {
            blob[at.pw2.bias + co] = source[at.pw2.bias + stored[co]];
            for (int i = 0; i < c; ++i) {
                blob[at.pw1.weight_index(co, order[i])] = source[at.pw1.weight_index(co, i)];
                blob[at.pw2.weight_index(co, i)] = source[at.pw2.weight_index(stored[co], i)];
            }
        }
    }

    /// Calls visit(channel, pixel, value) for what the slots hold after so many units of the stage.
    template <typename Visit>
    void for_each(int units, Visit visit) const {
        const std::vector<Slot> slots = detail::positions_after(block_.channels, units);
        for (int ch = 0; ch < 2 * block_.channels; ++ch) {
            const Slot slot = {slots[ch].block, plan_.index_of[slots[ch].block][slots[ch].index]};
            for (int p = 0; p < block_.pixels; ++p) {
                visit(ch, p, slots_[block_.offset(slot) + p * block_.lanes()]);
            }
        }
    }

    /// Unit by unit, each from what the slots hold, so that differences do not add up. The first one's input stays for
    /// run().
    void verify() {
        for (int u = 1; u < plan_.units; ++u) {
            for_each(u, [this, to = input_of(u).data()](int ch, int p, float value) { to[p * lanes_ + ch] = value; });
            std::fill_n(output_of(u).data(), output_of(u).size(), std::numeric_limits<float>::quiet_NaN());
            run_unit(u);
            float low = std::numeric_limits<float>::max(), high = -low, worst = 0;
            for_each(u + 1, [&, found = output_of(u).data()](int ch, int p, float value) {
                low = std::min(low, value);
                high = std::max(high, value);
                const float difference = std::abs(found[p * lanes_ + ch] - value);
                worst = std::isnan(difference) ? difference : std::max(worst, difference);
            });
            const double error = double{worst} / (double{high} - double{low});
            if (!(error <= kTolerance)) {
                throw std::runtime_error("unit " + std::to_string(u) + ": the versions differ by " +
                                         std::to_string(error) + " of the range");
            }
            error_ = std::max(error_, error);
        }
    }

    Pieces &pieces_;
    ShuffledUnit *kernel_;
    BlockLayout block_;
    StagePlan plan_;
    const float *slots_;
    int lanes_;
    TwoParts parts_;
    std::array<AlignedArray<float>, 3> tensors_;
    std::vector<AlignedArray<float>> blobs_;
    double error_ = 0;
};

/// A model's stages in both versions, verified; made when first needed.
struct Versions {
    std::unique_ptr<Pieces> slots;
    std::array<std::unique_ptr<PlainStage>, kStages> fused;
};

Versions &versions_of(const shufflenet_descriptor &descriptor, const ShuffledKernels &kernels, int threads) {
    static std::map<std::string, Workload> workloads;
    static std::map<std::pair<std::string, int>, Versions> all;
    const Workload &workload = workloads.try_emplace(descriptor.name, descriptor, 1).first->second;
    Versions &versions = all[{descriptor.name, threads}];
    if (versions.slots != nullptr) return versions;
    versions.slots = std::make_unique<Pieces>(descriptor, workload, threads);
    for (const Piece &piece : versions.slots->stages()) {
        if (!piece.run()) throw std::runtime_error(piece.name + " failed");
    }
    for (int s = 0; s < kStages; ++s) {
        versions.fused[s] = std::make_unique<PlainStage>(*versions.slots, s + 2, kernels.unit[s]);
    }
    return versions;
}

void run_stage(benchmark::State &state, const shufflenet_descriptor &descriptor, const ShuffledKernels &kernels,
               int number, bool fused, int threads) {
    const Versions &versions = versions_of(descriptor, kernels, threads);
    std::vector<const Piece *> basic;
    for (const Piece &piece : versions.slots->units()) {
        if (piece.name.starts_with("stage" + std::to_string(number)) && !piece.name.ends_with("_unit0")) {
            basic.push_back(&piece);
        }
    }
    PlainStage &plain = *versions.fused[number - 2];
    while (state.KeepRunning()) {
        const auto start = Clock::now();
        if (fused) {
            plain.run();
        } else {
            for (const Piece *piece : basic) {
                if (!piece->run()) return state.SkipWithError("the kernel reports an error");
            }
        }
        const std::chrono::duration<double> seconds = Clock::now() - start;
        state.SetIterationTime(seconds.count());
    }
    state.counters["error"] = plain.error();
    state.SetLabel(kernels.isa.data());
}

/// The kernels of the instruction set that the library chooses; nullptr where the build has none.
const ShuffledKernels *kernels_of(const shufflenet_descriptor &descriptor) {
    std::string isa;
    const Status status = chosen_isa(descriptor, &isa);
    if (!status.ok()) throw std::runtime_error(status.message());
    const auto found = std::ranges::find_if(shuffled_kernels(), [&](const ShuffledKernels &kernels) {
        return kernels.model == descriptor.name && kernels.isa == isa;
    });
    return found == shuffled_kernels().end() ? nullptr : &*found;
}

void register_stage(const shufflenet_descriptor &descriptor, const ShuffledKernels &kernels, int number) {
    const std::string stage = std::string("shuffle/") + descriptor.name + "/stage" + std::to_string(number);
    for (const int threads : {1, 2}) {
        for (const bool fused : {false, true}) {
            const std::string id = stage + (fused ? "/fused" : "/slots") + "/threads:" + std::to_string(threads);
            benchmark::RegisterBenchmark(id.c_str(),
                                         [&descriptor, &kernels, number, fused, threads](benchmark::State &state) {
                                             run_stage(state, descriptor, kernels, number, fused, threads);
                                         })
                ->UseManualTime()
                ->Unit(benchmark::kMicrosecond);
        }
    }
}

void register_all() {
    for (const shufflenet_descriptor *descriptor : compiled_models()) {
        const ShuffledKernels *kernels = kernels_of(*descriptor);
        for (int s = 0; s < kStages && kernels != nullptr; ++s) register_stage(*descriptor, *kernels, s + 2);
    }
}

}  // namespace

}  // namespace shufflenet::bench

int main(int argc, char **argv) {
    return shufflenet::bench::benchmark_main("bench_shuffle", argc, argv, shufflenet::bench::register_all);
}
