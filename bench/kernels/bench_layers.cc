// Where the time of a run goes, layer by layer: bench_layers MODEL THREADS RUNS prints a line of JSON.
//
// A kernel calls into the thread pool once for each of its parallel loops, and a loop is one layer, or two where the
// schedule fuses them. The linker hands these calls to us (--wrap), so that what is timed is the library's own run.
// The figures are those of the fastest run, and add up to it:
//   {"model":…, "isa":…, "threads":…, "peak_gflops":…, "run_us":…, "loops_us": what the loops take, "loops": [
//     {"kernel": "stage3_basic", "layers": "pw1", "calls": 7, "us": wall time of all calls,
//      "busy_us": the busiest thread's share of it, "mean_busy_us": the mean of the threads,
//      "flops": multiply-adds times two, "bytes": input, weights and output once each, "stored": bytes of the output,
//      "store_us": the time that writing as many bytes to the same memory takes alone, with one thread}]}
#include <elf.h>
#include <link.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "runtime/src/halide_hooks.h"
#include "workload.h"

namespace {

using Clock = std::chrono::steady_clock;
using Body = int (*)(void *context, int task, uint8_t *closure);

constexpr int kMostThreads = 64;

double microseconds_since(Clock::time_point start) {
    return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

int this_thread() {
    static std::atomic<int> threads{0};
    thread_local const int number = threads++;
    return number;
}

/// One call of a parallel loop.
struct LoopCall {
    Body body;
    uint8_t *closure;
    double wall = 0;
    std::array<double, kMostThreads> busy{};  ///< Each thread writes its own.
};

// The loops of the current run, in order. A run starts its loops from one thread.
std::vector<LoopCall> calls;

int timed_task(void *context, int task, uint8_t *closure) {
    auto *call = reinterpret_cast<LoopCall *>(closure);
    const auto start = Clock::now();
    const int result = call->body(context, task, call->closure);
    call->busy[this_thread() % kMostThreads] += microseconds_since(start);
    return result;
}

}  // namespace

extern "C" {

// NOLINTBEGIN(bugprone-reserved-identifier): the linker's names of what it wraps
int SHUFFLENET_REAL_HALIDE(do_par_for)(void *context, Body body, int first, int size, uint8_t *closure);

int SHUFFLENET_WRAP_HALIDE(do_par_for)(void *context, Body body, int first, int size, uint8_t *closure) {
    LoopCall &call = calls.emplace_back(LoopCall{body, closure});
    const auto start = Clock::now();
    const int result =
        SHUFFLENET_REAL_HALIDE(do_par_for)(context, timed_task, first, size, reinterpret_cast<uint8_t *>(&call));
    call.wall = microseconds_since(start);
    return result;
}
// NOLINTEND(bugprone-reserved-identifier)

}  // extern "C"

namespace shufflenet::bench {

namespace {

using Json = nlohmann::json;

/// The Func that a loop stores, and its kernel: from the name "<model>_<isa>_<kernel>_par_for_<func>_s0_…".
struct LoopName {
    std::string kernel, func;
};

template <typename T>
std::vector<T> read_at(std::ifstream &file, uint64_t offset, uint64_t count) {
    std::vector<T> all(count);
    file.seekg(static_cast<std::streamoff>(offset));
    file.read(reinterpret_cast<char *>(all.data()), static_cast<std::streamsize>(count * sizeof(T)));
    if (!file) throw std::runtime_error("this program's file cannot be read");
    return all;
}

/// This program's functions by their addresses. A model's kernels are hidden, so that dladdr() does not know them.
std::map<uintptr_t, std::string> function_names() {
    uintptr_t begin = 0;
    const auto first = [](dl_phdr_info *info, size_t, void *address) {
        *static_cast<uintptr_t *>(address) = info->dlpi_addr;
        return 1;
    };
    dl_iterate_phdr(first, &begin);
    std::ifstream file("/proc/self/exe", std::ios::binary);
    const auto header = read_at<ElfW(Ehdr)>(file, 0, 1).front();
    const auto sections = read_at<ElfW(Shdr)>(file, header.e_shoff, header.e_shnum);
    std::map<uintptr_t, std::string> names;
    for (const auto &section : sections) {
        if (section.sh_type != SHT_SYMTAB) continue;
        const auto text =
            read_at<char>(file, sections.at(section.sh_link).sh_offset, sections[section.sh_link].sh_size);
        for (const auto &symbol : read_at<ElfW(Sym)>(file, section.sh_offset, section.sh_size / section.sh_entsize)) {
            if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC) names[begin + symbol.st_value] = &text.at(symbol.st_name);
        }
    }
    return names;
}

LoopName name_of(Body body, const std::string &prefix) {
    static const std::map<uintptr_t, std::string> names = function_names();
    const auto found = names.find(reinterpret_cast<uintptr_t>(body));
    const std::string symbol = found == names.end() ? "" : found->second;
    const size_t middle = symbol.find("_par_for_"), end = symbol.find("_s0_");
    if (!symbol.starts_with(prefix) || middle == std::string::npos || end == std::string::npos) {
        throw std::runtime_error("a parallel loop without the name of one: \"" + symbol + '"');
    }
    const size_t func = middle + std::strlen("_par_for_");
    return {symbol.substr(prefix.size(), middle - prefix.size()), symbol.substr(func, end - func)};
}

/// The layers of a kernel, in the order in which it computes them, as "pw1", "dw", … with their rows.
std::vector<std::pair<std::string, Layer>> layers_of(const std::string &kernel, const std::vector<Layer> &all) {
    std::vector<std::pair<std::string, Layer>> mine;
    const std::string stage = kernel.substr(0, std::strlen("stage2"));
    const bool unit = kernel.starts_with("stage");
    const std::string branch = kernel.ends_with("branch1") ? "_branch1_" : "_branch2_";
    // All basic units of a stage are alike.
    const std::string prefix =
        unit ? stage + (kernel.ends_with("basic") ? "_unit1" : "_unit0") + branch : kernel.substr(0, kernel.find('_'));
    for (const Layer &layer : all) {
        const std::string id(layer.id.view());
        if (id.starts_with(prefix)) mine.emplace_back(unit ? id.substr(prefix.size()) : id, layer);
    }
    return mine;
}

/// Microseconds for writing that many bytes, warm.
double store_time(size_t bytes) {
    std::vector<char> memory(bytes);
    double best = 1e30;
    for (int i = 0; i < 200; ++i) {
        const auto start = Clock::now();
        std::memset(memory.data(), i, bytes);
        asm volatile("" : : "r"(memory.data()) : "memory");
        best = std::min(best, microseconds_since(start));
    }
    return best;
}

/// What one loop of a kernel took, in all its calls and with the loop over the tail of its channels.
struct LoopTime {
    std::string kernel, func;
    int calls = 0;
    double wall = 0, busy = 0, mean_busy = 0;
};

std::vector<LoopTime> sum_up(const std::vector<LoopCall> &run, const std::string &prefix, int threads) {
    std::vector<LoopTime> sums;
    for (const LoopCall &call : run) {
        LoopName name = name_of(call.body, prefix);
        const size_t tail = name.func.find("_tail");
        name.func = name.func.substr(0, tail);
        auto sum = std::ranges::find_if(
            sums, [&](const LoopTime &s) { return s.kernel == name.kernel && s.func == name.func; });
        if (sum == sums.end()) sum = sums.insert(sums.end(), {name.kernel, name.func});
        if (tail == std::string::npos) ++sum->calls;
        sum->wall += call.wall;
        sum->busy += *std::ranges::max_element(call.busy);
        for (const double busy : call.busy) sum->mean_busy += busy / threads;
    }
    return sums;
}

/// A loop's layers are those that no later loop of its kernel stores: what is fused comes before what is stored.
Json describe(const std::vector<LoopTime> &loops, const std::vector<Layer> &all) {
    Json result = Json::array();
    std::map<std::string, size_t> done;
    for (const LoopTime &loop : loops) {
        const auto layers = layers_of(loop.kernel, all);
        size_t end = layers.size();
        for (size_t i = 0; i < layers.size(); ++i) {
            if (layers[i].first == loop.func) end = i + 1;
        }
        std::string names;
        double flops = 0, floats = 0, stored = 0;
        for (size_t &i = done[loop.kernel]; i < end; ++i) {
            const Layer &layer = layers[i].second;
            const double in = 1.0 * layer.in.pixels() * layer.in_channels;
            stored = 1.0 * layer.out.pixels() * layer.out_channels;
            if (names.empty()) floats += in;
            names += (names.empty() ? "" : "+") + layers[i].first;
            flops += 2.0 * static_cast<double>(layer.flops());
            floats += static_cast<double>(layer.weight_elements());
        }
        floats += stored;
        const double bytes = stored * sizeof(float);
        result.push_back({{"kernel", loop.kernel},
                          {"layers", names},
                          {"calls", loop.calls},
                          {"us", loop.wall},
                          {"busy_us", loop.busy},
                          {"mean_busy_us", loop.mean_busy},
                          {"flops", flops * loop.calls},
                          {"bytes", floats * sizeof(float) * loop.calls},
                          {"stored", bytes * loop.calls},
                          {"store_us", store_time(static_cast<size_t>(bytes)) * loop.calls}});
    }
    return result;
}

Json measure(const shufflenet_descriptor &descriptor, int threads, int runs) {
    const Workload workload(descriptor, 1);
    Model model = workload.open(threads);
    workload.verify(model);
    std::vector<float> logits(descriptor.classes);
    std::vector<LoopCall> fastest;
    double best = 1e30;
    calls.reserve(1000);
    for (int i = 0; i < runs; ++i) {
        calls.clear();
        const auto start = Clock::now();
        if (const Status status = model.run(workload.input(), 1, logits); !status.ok()) {
            throw std::runtime_error(status.message());
        }
        const double took = microseconds_since(start);
        if (took >= best) continue;
        best = took;
        fastest = calls;
    }
    const std::string prefix = std::string(descriptor.name) + "_" + model.isa() + "_";
    const std::vector<LoopTime> loops = sum_up(fastest, prefix, threads);
    double total = 0;
    for (const LoopTime &loop : loops) total += loop.wall;
    const std::vector<Layer> layers = network_layers(workload.network(), workload.size(), descriptor.classes);
    Json described = describe(loops, layers);
    // A loop of one task is no loop, and its time is nowhere: a small network's.
    double missing = 0;
    for (const Layer &layer : layers) missing += 2.0 * static_cast<double>(layer.flops());
    for (const Json &loop : described) missing -= loop.at("flops").get<double>();
    if (missing != 0) throw std::runtime_error(prefix + "*: some layers have but one task");
    return {{"model", descriptor.name},
            {"isa", model.isa()},
            {"threads", threads},
            {"peak_gflops", peak_gflops(model.isa(), threads)},
            {"run_us", best},
            {"loops_us", total},
            {"loops", std::move(described)}};
}

int number(const char *text, int most) {
    char *end = nullptr;
    const long value = std::strtol(text, &end, 10);
    if (*end != '\0' || value < 1 || value > most) {
        throw std::runtime_error(std::string(text) + ": expected a number from 1 to " + std::to_string(most));
    }
    return static_cast<int>(value);
}

void bench_layers(const std::vector<const char *> &arguments) {
    if (arguments.size() != 3) throw std::runtime_error("expected MODEL THREADS RUNS");
    for (const shufflenet_descriptor *descriptor : compiled_models()) {
        if (std::string_view(descriptor->name) != arguments[0]) continue;
        std::cout << measure(*descriptor, number(arguments[1], kMostThreads), number(arguments[2], 1 << 20)).dump()
                  << std::endl;
        return;
    }
    throw std::runtime_error(std::string(arguments[0]) + ": not compiled in");
}

}  // namespace

}  // namespace shufflenet::bench

int main(int argc, char **argv) {
    try {
        shufflenet::bench::bench_layers({argv + 1, argv + argc});
        return 0;
    } catch (const std::exception &error) {
        std::cerr << "bench_layers: error: " << error.what() << '\n';
        return 1;
    }
}
