// What the main() of every Google Benchmark program here does.
#pragma once

#include <benchmark/benchmark.h>

#include <exception>
#include <iostream>

namespace shufflenet::bench {

/// Registers and runs benchmarks; returns the exit status: 2 for unknown flags, 1, with a line on stderr that starts
/// with the program's `name`, for an exception.
inline int benchmark_main(const char *name, int argc, char **argv, void (*register_all)()) {
    try {
        register_all();
        benchmark::Initialize(&argc, argv);
        if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
        benchmark::RunSpecifiedBenchmarks();
        benchmark::Shutdown();
        return 0;
    } catch (const std::exception &error) {
        std::cerr << name << ": error: " << error.what() << '\n';
        return 1;
    }
}

}  // namespace shufflenet::bench
