// The pieces of networks: stage/<model>/<stage>/threads:<T> and unit/<model>/<unit>/threads:<T>, in real time.
// Weights are warm, or, with "/cold" in the name, in memory, as the rest of a network leaves them. Counters: GFLOPS,
// peak_fraction, and for the roofline flops_per_byte (input, output and weights counted once each).
#include <benchmark/benchmark.h>

#include <chrono>
#include <map>
#include <memory>

#include "benchmark_main.h"
#include "stages.h"

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;

/// A verified model in pieces; made when first needed.
Pieces &pieces_of(const shufflenet_descriptor &descriptor, int threads) {
    static std::map<std::string, std::unique_ptr<Workload>> workloads;
    static std::map<std::pair<std::string, int>, std::unique_ptr<Pieces>> all;
    std::unique_ptr<Workload> &workload = workloads[descriptor.name];
    if (workload == nullptr) {
        workload = std::make_unique<Workload>(descriptor, 1);
        Model model = workload->open(threads);
        workload->verify(model);
    }
    std::unique_ptr<Pieces> &pieces = all[{descriptor.name, threads}];
    if (pieces == nullptr) {
        pieces = std::make_unique<Pieces>(descriptor, *workload, threads);
        for (const Piece &piece : pieces->stages()) {
            if (!piece.run()) throw std::runtime_error(piece.name + " failed");
        }
    }
    return *pieces;
}

void run_piece(benchmark::State &state, const shufflenet_descriptor &descriptor, bool unit, size_t index, int threads,
               bool cold) {
    const Pieces &pieces = pieces_of(descriptor, threads);
    const Piece &piece = (unit ? pieces.units() : pieces.stages())[index];
    std::chrono::duration<double> total{0};
    while (state.KeepRunning()) {
        if (cold) Pieces::evict(piece);
        const auto start = Clock::now();
        if (!piece.run()) return state.SkipWithError("the kernel reports an error");
        const std::chrono::duration<double> seconds = Clock::now() - start;
        state.SetIterationTime(seconds.count());
        total += seconds;
    }
    const double gflops = piece.flops * 1e-9 * static_cast<double>(state.iterations()) / total.count();
    state.counters["GFLOPS"] = gflops;
    state.counters["peak_fraction"] = gflops / peak_gflops(pieces.isa(), threads);
    state.counters["flops_per_byte"] = piece.flops / piece.bytes;
    state.SetLabel(pieces.isa());
}

void register_piece(const shufflenet_descriptor &descriptor, const std::string &kind, const std::string &name,
                    size_t index) {
    for (const int threads : {1, 2}) {
        for (const bool cold : {false, true}) {
            const std::string id = kind + "/" + descriptor.name + "/" + name + "/threads:" + std::to_string(threads) +
                                   (cold ? "/cold" : "");
            benchmark::RegisterBenchmark(id.c_str(),
                                         [&descriptor, kind, index, threads, cold](benchmark::State &state) {
                                             run_piece(state, descriptor, kind == "unit", index, threads, cold);
                                         })
                ->UseManualTime()
                ->Unit(benchmark::kMicrosecond);
        }
    }
}

void register_all() {
    for (const shufflenet_descriptor *descriptor : compiled_models()) {
        const Network *found = find_network(descriptor->network);
        if (found == nullptr) continue;  // A comparison network has no stages.
        size_t index = 0;
        for (const char *name : {"stem", "stage2", "stage3", "stage4", "conv5_pool", "fc"}) {
            register_piece(*descriptor, "stage", name, index++);
        }
        index = 0;
        const Network &network = *found;
        for (int s = 0; s < kStages; ++s) {
            // All basic units of a stage are one kernel with other weights: the first stands for them.
            for (int u = 0; u < network.units[s]; ++u, ++index) {
                if (u > 1) continue;
                register_piece(*descriptor, "unit", "stage" + std::to_string(s + 2) + "_unit" + std::to_string(u),
                               index);
            }
        }
    }
}

}  // namespace

}  // namespace shufflenet::bench

int main(int argc, char **argv) {
    return shufflenet::bench::benchmark_main("bench_unit", argc, argv, shufflenet::bench::register_all);
}
