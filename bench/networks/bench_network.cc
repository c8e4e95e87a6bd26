// Whole networks: network/<model>/batch:<N>/threads:<T>, in real time, with GFLOPS and the share of the multiply-add
// peak that is measured in the same process; and network/<model>/batch:<N>/device:<device>, from device memory to
// device memory, for each device that models were compiled for.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <set>
#include <thread>

#include "bench/common/benchmark_main.h"
#include "bench/common/workload.h"
#include "models/compiled_models.h"

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;

void run_network(benchmark::State &state, const Workload &workload, int batch, int threads) {
    Model model = workload.open(threads);
    static std::set<const Workload *> verified;
    if (verified.insert(&workload).second) workload.verify(model);
    const std::span input = workload.input(batch);
    const Outputs outputs(model.outputs(), batch);
    const auto start = Clock::now();
    while (state.KeepRunning()) {
        if (const Status status = model.run(input, batch, outputs.requests()); !status.ok()) {
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

/// One run after the other, without waiting in between, as a stream of work has them.
void run_on_device(benchmark::State &state, const Workload &workload, const std::string &device, int batch) {
    DeviceModel model = workload.open_device(device, batch);
    workload.verify(model);
    const auto start = Clock::now();
    while (state.KeepRunning()) {
        Status status = model.enqueue(model.own_input(), batch, model.own_output());
        // Some in flight hide what a launch costs the host; many would only queue.
        if (status.ok() && state.iterations() % 16 == 0) status = model.synchronize();
        if (!status.ok()) {
            state.SkipWithError(status.message().c_str());
            return;
        }
    }
    if (const Status status = model.synchronize(); !status.ok()) state.SkipWithError(status.message().c_str());
    const std::chrono::duration<double> seconds = Clock::now() - start;
    const auto runs = static_cast<double>(state.iterations());
    state.counters["GFLOPS"] = workload.flops() * batch * 1e-9 * runs / seconds.count();
    state.counters["images_per_second"] = batch * runs / seconds.count();
    state.counters["kernels"] = static_cast<double>(model.kernels(batch).size());
    state.SetLabel(model.device_name());
}

/// Only where the device is there: without it, the benchmarks of the CPU are the others.
void register_devices(const shufflenet_descriptor &descriptor, const std::shared_ptr<Workload> &workload) {
    for (int i = 0; i < descriptor.devices_count; ++i) {
        const std::string device = descriptor.devices[i].device;
        DeviceModel probe;
        DeviceOptions options;
        options.device = device;
        options.max_batch = 1;
        if (const Status status = probe.open(descriptor, options); !status.ok()) {
            std::fprintf(stderr, "%s: %s\n", descriptor.name, status.message().c_str());
            continue;
        }
        for (const int batch : {1, 8, 64, 256}) {
            const std::string name =
                "network/" + std::string(descriptor.name) + "/batch:" + std::to_string(batch) + "/device:" + device;
            benchmark::RegisterBenchmark(
                name.c_str(),
                [workload, device, batch](benchmark::State &state) { run_on_device(state, *workload, device, batch); })
                ->UseRealTime()
                ->Unit(benchmark::kMillisecond);
        }
    }
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
        register_devices(*descriptor, workload);
    }
}

}  // namespace

}  // namespace shufflenet::bench

int main(int argc, char **argv) {
    return shufflenet::bench::benchmark_main("bench_network", argc, argv, shufflenet::bench::register_all);
}
