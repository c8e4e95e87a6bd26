// Whole networks: network/<model>/batch:<N>/threads:<T>, in real time, with GFLOPS and the share of the multiply-add
// peak that is measured in the same process.
#include <benchmark/benchmark.h>

#include <chrono>
#include <memory>
#include <set>
#include <thread>

#include "benchmark_main.h"
#include "workload.h"

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;

void run_network(benchmark::State &state, const Workload &workload, int batch, int threads) {
    Model model = workload.open(threads);
    static std::set<const Workload *> verified;
    if (verified.insert(&workload).second) workload.verify(model);
    const std::span input = workload.input().first(size_t(batch) * 3 * workload.size().pixels());
    std::vector<float> logits(size_t(batch) * model.classes());
    const auto start = Clock::now();
    while (state.KeepRunning()) {
        if (const Status status = model.run(input, batch, logits); !status.ok()) {
            state.SkipWithError(status.message().c_str());
            return;
        }
    }
    const std::chrono::duration<double> seconds = Clock::now() - start;
    const double gflops = workload.flops() * batch * 1e-9 * static_cast<double>(state.iterations()) / seconds.count();
    state.counters["GFLOPS"] = gflops;
    state.counters["peak_fraction"] = gflops / peak_gflops(model.isa(), threads);
    state.SetLabel(model.isa());
}

/// One and two everywhere; four, which many boards have, where they are.
std::vector<int> thread_counts() {
    if (std::thread::hardware_concurrency() >= 4) return {1, 2, 4};
    return {1, 2};
}

void register_all() {
    constexpr int kMostImages = 8;
    for (const shufflenet_descriptor *descriptor : compiled_models()) {
        const auto workload = std::make_shared<Workload>(*descriptor, kMostImages);
        for (const int batch : {1, kMostImages}) {
            for (const int threads : thread_counts()) {
                const std::string name = "network/" + std::string(descriptor->name) +
                                         "/batch:" + std::to_string(batch) + "/threads:" + std::to_string(threads);
                benchmark::RegisterBenchmark(name.c_str(),
                                             [workload, batch, threads](benchmark::State &state) {
                                                 run_network(state, *workload, batch, threads);
                                             })
                    ->UseRealTime()
                    ->Unit(benchmark::kMillisecond);
            }
        }
    }
}

}  // namespace

}  // namespace shufflenet::bench

int main(int argc, char **argv) {
    return shufflenet::bench::benchmark_main("bench_network", argc, argv, shufflenet::bench::register_all);
}
