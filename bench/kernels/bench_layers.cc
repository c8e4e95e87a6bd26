// Where the time of a run goes, layer by layer: bench_layers MODEL THREADS RUNS prints a line of JSON.
//
// A kernel calls into the thread pool once for each of its parallel loops, and a loop is one layer, or several where
// the schedule fuses them. The linker hands these calls to us (--wrap), so that what is timed are the library's own
// kernels. The figures are those of the fastest run, and add up to it:
//   {"model":…, "isa":…, "threads":…, "peak_gflops":…, "run_us":…, "loops_us": what the loops take, "loops": [
//     {"kernel": its first call, "layers": "pw1", "calls": 7, "us": wall time of all calls,
//      "busy_us": the busiest thread's share of it, "mean_busy_us": the mean of the threads,
//      "flops": multiply-adds times two, "bytes": input, weights and output once each, "stored": bytes of the output,
//      "store_us": the time that writing as many bytes to the same memory takes alone, with one thread}]}
// A call without a loop, because there is but one task, is one loop.
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

#include "bench/common/call_runner.h"
#include "models/compiled_models.h"
#include "runtime/src/halide_hooks.h"

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

/// One run of a parallel loop, or of a call that has none.
struct LoopCall {
    int call;  ///< Of the program.
    Body body;
    uint8_t *closure;
    double wall = 0;
    std::array<double, kMostThreads> busy{};  ///< Each thread writes its own.
};

// The loops of the current run, in order, and the call that runs. A run starts its loops from one thread.
std::vector<LoopCall> loops;
int current_call = 0;

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
    LoopCall &call = loops.emplace_back(LoopCall{current_call, body, closure});
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

/// The Func that a loop stores, without "_tail" and the like, from "<kernel>_par_for_<func>_s0_…"; empty: no loop.
std::string func_of(Body body) {
    if (body == nullptr) return "";
    static const std::map<uintptr_t, std::string> names = function_names();
    const auto found = names.find(reinterpret_cast<uintptr_t>(body));
    const std::string symbol = found == names.end() ? "" : found->second, middle = "_par_for_";
    const size_t at = symbol.find(middle);
    if (at == std::string::npos) {
        throw std::runtime_error("a parallel loop without the name of one: \"" + symbol + '"');
    }
    const std::string func = symbol.substr(at + middle.size());
    return func.substr(0, func.find('_'));
}

/// How many of a kernel's layers are done when a loop has stored `func`.
size_t layers_done(const networks::Kernel &kernel, const std::string &func, size_t all) {
    if (kernel.kind != networks::KernelKind::kUnit) return all;
    const size_t expanded = kernel.expands() ? 1 : 0;
    return func == "pw1" ? expanded : func == "dw" ? expanded + 1 : all;
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
    int kernel, call;  ///< The first call of them.
    std::string func;
    int calls = 0;
    double wall = 0, busy = 0, mean_busy = 0;
};

std::vector<LoopTime> sum_up(const std::vector<LoopCall> &run, const networks::Program &program, int threads) {
    std::vector<LoopTime> sums;
    std::map<std::pair<int, std::string>, int> last_call;
    for (const LoopCall &loop : run) {
        const int kernel = program.calls[loop.call].kernel;
        const std::string func = func_of(loop.body);
        auto sum = std::ranges::find_if(sums, [&](const LoopTime &s) { return s.kernel == kernel && s.func == func; });
        if (sum == sums.end()) sum = sums.insert(sums.end(), {kernel, loop.call, func});
        const auto [last, first_time] = last_call.try_emplace({kernel, func}, loop.call);
        // A tail is another loop of the same call.
        if (first_time || last->second != loop.call) ++sum->calls;
        last->second = loop.call;
        sum->wall += loop.wall;
        sum->busy += *std::ranges::max_element(loop.busy);
        for (const double busy : loop.busy) sum->mean_busy += busy / threads;
    }
    return sums;
}

/// "pw1" of "stage2_unit1_branch2_pw1", where the call is "stage2_unit1_branch2".
std::string short_name(const std::string &layer, const std::string &call) {
    return layer.starts_with(call + "_") ? layer.substr(call.size() + 1) : layer;
}

Json describe_loop(const LoopTime &loop, const networks::Program &program, const std::vector<int> &layers) {
    const networks::Call &call = program.calls[loop.call];
    std::string names;
    for (const int layer : layers) {
        names += (names.empty() ? "" : "+") + short_name(program.graph.layers[layer].id, call.id);
    }
    const double flops = 2.0 * static_cast<double>(flops_of(program.graph, layers));
    const double bytes = sizeof(float) * static_cast<double>(elements_of(program.graph, layers));
    double stored = 0;
    if (!layers.empty()) {
        const networks::Layer &last = program.graph.layers[layers.back()];
        stored = sizeof(float) * static_cast<double>(last.out_channels) * last.out.pixels();
    }
    return {{"kernel", call.id},
            {"layers", names},
            {"calls", loop.calls},
            {"us", loop.wall},
            {"busy_us", loop.busy},
            {"mean_busy_us", loop.mean_busy},
            {"flops", flops * loop.calls},
            {"bytes", bytes * loop.calls},
            {"stored", stored * loop.calls},
            {"store_us", store_time(static_cast<size_t>(stored)) * loop.calls}};
}

/// A loop's layers are those that no loop before it has stored: what is fused comes before what is stored.
Json describe(const std::vector<LoopTime> &sums, const networks::Program &program) {
    Json result = Json::array();
    std::map<int, size_t> done;
    for (const LoopTime &loop : sums) {
        const std::vector<int> &all = program.calls[loop.call].layers;
        const size_t first = done[loop.kernel];
        const size_t end = std::max(first, layers_done(program.kernels[loop.kernel], loop.func, all.size()));
        done[loop.kernel] = end;
        result.push_back(describe_loop(loop, program, {all.begin() + ssize_t(first), all.begin() + ssize_t(end)}));
    }
    return result;
}

/// Microseconds of a run, whose loops are in `loops` then.
double timed_run(CallRunner &runner) {
    loops.clear();
    const auto start = Clock::now();
    for (int call = 0; call < static_cast<int>(runner.calls().size()); ++call) {
        current_call = call;
        const size_t before = loops.size();
        const auto begin = Clock::now();
        runner.run(call);
        if (loops.size() > before) continue;
        const double took = microseconds_since(begin);
        loops.push_back({call, nullptr, nullptr, took, {took}});
    }
    return microseconds_since(start);
}

Json measure(const shufflenet_descriptor &descriptor, int threads, int runs) {
    const Workload workload(descriptor, 1);
    loops.reserve(10'000);
    ModelCalls verified(workload, threads);
    ProgramCalls &model = verified.calls();
    std::vector<LoopCall> fastest;
    double best = 1e30;
    for (int i = 0; i < runs; ++i) {
        const double took = timed_run(model.runner());
        if (took >= best) continue;
        best = took;
        fastest = loops;
    }
    const std::vector<LoopTime> sums = sum_up(fastest, model.program(), threads);
    double total = 0;
    for (const LoopTime &loop : sums) total += loop.wall;
    return {{"model", descriptor.name},
            {"isa", model.isa()},
            {"threads", threads},
            {"peak_gflops", peak_gflops(model.isa(), threads)},
            {"run_us", best},
            {"loops_us", total},
            {"loops", describe(sums, model.program())}};
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
