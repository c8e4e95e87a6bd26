// The pieces of networks: stage/<model>/<stage>/threads:<T>, all calls whose names have the same first word, and
// kernel/<model>/<call>/threads:<T>, one of each kernel's calls, in real time. Weights are warm, or, with "/cold" in
// the name, in memory, as the rest of a network leaves them. Counters: GFLOPS, peak_fraction, and for the roofline
// flops_per_byte (of each call input, output and weights counted once).
#include <benchmark/benchmark.h>

#include <chrono>
#include <map>
#include <memory>
#include <set>

#include "bench/common/benchmark_main.h"
#include "bench/common/call_runner.h"
#include "models/compiled_models.h"

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;

/// Calls that are timed together.
struct Piece {
    std::string kind, name;
    std::vector<int> calls;
};

std::vector<Piece> pieces_of(const shufflenet_descriptor &descriptor) {
    std::vector<Piece> stages, kernels;
    std::set<int> seen;
    const std::span calls(descriptor.program->calls, size_t(descriptor.program->calls_count));
    for (int i = 0; i < static_cast<int>(calls.size()); ++i) {
        const std::string id = calls[i].id, stage = id.substr(0, id.find('_'));
        if (stages.empty() || stages.back().name != stage) stages.push_back({"stage", stage, {}});
        stages.back().calls.push_back(i);
        if (seen.insert(calls[i].kernel).second) kernels.push_back({"kernel", id, {i}});
    }
    stages.insert(stages.end(), kernels.begin(), kernels.end());
    return stages;
}

/// A verified model in calls; made when first needed.
ProgramCalls &model_calls(const shufflenet_descriptor &descriptor, int threads) {
    static std::map<const shufflenet_descriptor *, std::unique_ptr<Workload>> workloads;
    static std::map<std::pair<const shufflenet_descriptor *, int>, std::unique_ptr<ModelCalls>> all;
    std::unique_ptr<Workload> &workload = workloads[&descriptor];
    if (workload == nullptr) workload = std::make_unique<Workload>(descriptor, 1);
    std::unique_ptr<ModelCalls> &calls = all[{&descriptor, threads}];
    if (calls == nullptr) calls = std::make_unique<ModelCalls>(*workload, threads);
    return calls->calls();
}

void run_piece(benchmark::State &state, const shufflenet_descriptor &descriptor, const Piece &piece, int threads,
               bool cold) {
    ProgramCalls &model = model_calls(descriptor, threads);
    double flops = 0, bytes = 0;
    for (const int call : piece.calls) {
        flops += model.flops(call);
        bytes += model.bytes(call);
    }
    std::chrono::duration<double> total{0};
    while (state.KeepRunning()) {
        for (const int call : piece.calls) {
            if (cold) model.evict_weights(call);
        }
        const auto start = Clock::now();
        for (const int call : piece.calls) model.runner().run(call);
        const std::chrono::duration<double> seconds = Clock::now() - start;
        state.SetIterationTime(seconds.count());
        total += seconds;
    }
    const double gflops = flops * 1e-9 * static_cast<double>(state.iterations()) / total.count();
    state.counters["GFLOPS"] = gflops;
    state.counters["peak_fraction"] = gflops / peak_gflops(model.isa(), threads);
    state.counters["flops_per_byte"] = flops / bytes;
    state.SetLabel(model.isa());
}

void register_piece(const shufflenet_descriptor &descriptor, const Piece &piece) {
    for (const int threads : {1, 2}) {
        for (const bool cold : {false, true}) {
            const std::string id = piece.kind + "/" + descriptor.name + "/" + piece.name +
                                   "/threads:" + std::to_string(threads) + (cold ? "/cold" : "");
            benchmark::RegisterBenchmark(id.c_str(),
                                         [&descriptor, piece, threads, cold](benchmark::State &state) {
                                             run_piece(state, descriptor, piece, threads, cold);
                                         })
                ->UseManualTime()
                ->Unit(benchmark::kMicrosecond);
        }
    }
}

void register_all() {
    for (const shufflenet_descriptor *descriptor : compiled_models()) {
        for (const Piece &piece : pieces_of(*descriptor)) register_piece(*descriptor, piece);
    }
}

}  // namespace

}  // namespace shufflenet::bench

int main(int argc, char **argv) {
    return shufflenet::bench::benchmark_main("bench_unit", argc, argv, shufflenet::bench::register_all);
}
