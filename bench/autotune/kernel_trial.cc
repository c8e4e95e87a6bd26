// Times one kernel in several versions, each from a shared object, in turn. A process of its own, so that a version
// which crashes or hangs takes nothing else with it, and so that it can run on another machine.
//
// Standard input: a line of JSON, then the bytes of the shared objects one after another:
//   {"graph": "…" (networks/graph_text.h), "kernel": 3 (of its program), "target": "avx512", "threads": [1, 2],
//    "milliseconds": 300, "symbol": "kernel", "objects": [{"bytes": 12345, "lanes": [48, 16]}, ...]}
// The first object is the oracle: it runs once, and is not timed. Standard output, a line of JSON:
//   {"trials": [{"error": 1e-7, "microseconds": {"1": {"min": 1.5, "fast": 1.5, "median": 1.6}, "2": ...}}, ...]}
// "fast" is the 5th percentile: what the kernel takes when nothing disturbs it, without the luck of a single run.
// "error" is the worst difference from the oracle, as a share of the oracle's range.
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <stdexcept>

#include "bench/common/call_runner.h"
#include "generators/compile/program_data.h"
#include "networks/graph_text.h"
#include "reference/random_weights.h"
#include "runtime/src/halide_hooks.h"
#include "runtime/src/isa.h"
#include "runtime/src/safetensors.h"

// The kernels here come straight from the generator: their Halide hooks have not been renamed yet.
extern "C" {
void *halide_malloc(void *user_context, size_t x) { return SHUFFLENET_HALIDE(malloc)(user_context, x); }
void halide_free(void *user_context, void *ptr) { SHUFFLENET_HALIDE(free)(user_context, ptr); }
void halide_error(void *user_context, const char *message) { SHUFFLENET_HALIDE(error)(user_context, message); }
int halide_do_par_for(void *user_context, halide_task_t task, int min, int size, uint8_t *closure) {
    return SHUFFLENET_HALIDE(do_par_for)(user_context, task, min, size, closure);
}
}

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

constexpr uint64_t kSeed = 7;
// More than a core has for itself, of any kind.
constexpr size_t kPrivateCacheBytes = 4 << 20;

// The oracle keeps whole tensors where the product keeps strips.
constexpr size_t kOracleScratchBytes = 64 << 20;

/// The shared object whose bytes come next on standard input.
void *read_object(size_t size) {
    std::string bytes(size, '\0');
    if (!std::cin.read(bytes.data(), static_cast<std::streamsize>(size))) {
        throw std::runtime_error("standard input: expected " + std::to_string(size) + " more bytes");
    }
    const int file = memfd_create("kernel", 0);
    if (file < 0 || write(file, bytes.data(), size) != static_cast<ssize_t>(size)) {
        throw std::runtime_error("cannot write the shared object to memory");
    }
    void *handle = dlopen(("/proc/self/fd/" + std::to_string(file)).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) throw std::runtime_error(dlerror());
    return handle;
}

void *find_function(void *handle, const std::string &symbol) {
    void *function = dlsym(handle, symbol.c_str());
    if (function == nullptr) throw std::runtime_error("no " + symbol + " in the shared object");
    return function;
}

/// A version of the kernel.
struct Version {
    shufflenet_kernel kernel;
    Json result;
    std::vector<double> microseconds;
};

/// What the versions are timed on: the memory of an image, in which a call of the kernel finds its operands.
class Fixture {
  public:
    explicit Fixture(const Json &request)
        : isa_(request.at("target")),
          kernel_(request.at("kernel")),
          data_(make_program(networks::graph_from_text(request.at("graph").get<std::string>()))),
          table_(data_.source().kernels.size()),
          image_(reference::random_input(data_.graph().input, 1, kSeed)) {
        if (!cpu_has(isa_)) throw std::runtime_error("this CPU does not have " + isa_);
        const auto call = std::ranges::find(data_.source().calls, kernel_, &networks::Call::kernel);
        if (call == data_.source().calls.end()) throw std::runtime_error("no kernel " + std::to_string(kernel_));
        call_ = static_cast<int>(call - data_.source().calls.begin());
        kernels_ = {.isa = isa_.c_str(), .kernels = table_.data(), .scratch_bytes = kOracleScratchBytes};
        const auto file = reference::random_safetensors(data_.graph(), kSeed);
        Safetensors tensors;
        check(Safetensors::parse(file, "random weights", &tensors));
        check(pack_weights(tensors, "random weights", data_.graph().name, data_.program(), &weights_));
        set_threads(1);
    }

    void use(const shufflenet_kernel &version) { table_[kernel_] = version; }

    /// All that the kernel may have written, after a run on the same data as ever.
    std::vector<float> outputs() {
        fill();
        runner_->run(call_);
        // The oracle comes first: from there on kernels have as much scratch memory as in the product.
        kernels_.scratch_bytes = kScratchBytes;
        for (Scratch &scratch : runner_->scratch()) scratch.size = kScratchBytes;
        const std::span<const float> memory = runner_->memory();
        std::vector<float> all(memory.begin(), memory.end());
        for (const std::vector<float> &output : runner_->outputs()) all.insert(all.end(), output.begin(), output.end());
        return all;
    }

    /// On how many the kernel runs from now on.
    void set_threads(int threads) {
        runner_ = std::make_unique<CallRunner>(Callee{&data_.program(), &kernels_, &weights_}, image_, threads,
                                               kernels_.scratch_bytes);
        fill();
        elsewhere_.assign(runner_->pool().active(), std::vector<float>(kPrivateCacheBytes / sizeof(float)));
        find_operands();
    }

    /// Microseconds of one call.
    double time() {
        prepare();
        const auto start = Clock::now();
        runner_->run(call_);
        const std::chrono::duration<double, std::micro> took = Clock::now() - start;
        return took.count();
    }

  private:
    void fill() {
        const std::span<float> memory = runner_->memory();
        for (size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<float>(i * 7919 % 1009) / 1009;
    }

    /// The planes that the call reads, or the image, or the row.
    void find_operands() {
        operands_.clear();
        const networks::Kernel &kernel = data_.source().kernels[kernel_];
        if (kernel.kind == networks::KernelKind::kStem) {
            operands_.emplace_back(image_);
            return;
        }
        if (kernel.kind == networks::KernelKind::kLinear) {
            operands_.emplace_back(runner_->row());
            return;
        }
        const networks::TableLayout at = table_layout(kernel);
        const int *table = data_.source().tables.data() + data_.source().calls[call_].table;
        std::set<int> planes;
        for (int i = 0; i < at.size(); ++i) {
            const bool lane = i >= at.first_lane() && i < at.first_addend();
            if (!lane) planes.insert(table[i] / kLineFloats * kLineFloats);
        }
        const size_t floats = size_t(kernel.in.pixels()) * kLineFloats;
        for (const int plane : planes) {
            const std::span<float> memory = runner_->memory().subspan(size_t(plane));
            operands_.emplace_back(memory.first(std::min(floats, memory.size())));
        }
    }

    /// Nearly as the rest of a network leaves things: weights are out of every core's own caches, but in the one that
    /// cores share; the threads, which are awake, have just read a share of the input each.
    void prepare() {
        const auto prepare_thread = [](void *argument, int task, int /*thread*/) {
            const auto &fixture = *static_cast<Fixture *>(argument);
            read(fixture.elsewhere_[task]);
            for (const std::span<const float> operand : fixture.operands_) {
                const size_t share = operand.size() / fixture.elsewhere_.size();
                read(operand.subspan(task * share, share));
            }
        };
        runner_->pool().run(runner_->pool().active(), prepare_thread, this);
    }

    /// Reads a float of every line.
    static void read(std::span<const float> memory) {
        float sum = 0;
        for (size_t i = 0; i < memory.size(); i += kLineFloats) sum += memory[i];
        volatile float sink = sum;
        static_cast<void>(sink);
    }

    std::string isa_;
    int kernel_, call_ = 0;  ///< The kernel, and the first call of it.
    compile::ProgramData data_;
    std::vector<shufflenet_kernel> table_;
    shufflenet_kernels kernels_{};
    PackedWeights weights_;
    std::vector<float> image_;
    std::unique_ptr<CallRunner> runner_;
    std::vector<std::span<const float>> operands_;
    std::vector<std::vector<float>> elsewhere_;  ///< Each thread's, which pushes all else out of its caches.
};

double worst_error(const std::vector<float> &found, const std::vector<float> &expected) {
    const auto [low, high] = std::minmax_element(expected.begin(), expected.end());
    double worst = 0;
    for (size_t i = 0; i < found.size(); ++i) {
        if (!std::isfinite(found[i])) return 1e30;
        worst = std::max(worst, std::abs(double{found[i]} - double{expected[i]}));
    }
    return worst / std::max(1e-30, double{*high} - double{*low});
}

/// Runs the versions in turn until the time is over; fills their microseconds.
void time_in_turn(Fixture &fixture, std::vector<Version> &versions, int threads, double milliseconds) {
    fixture.set_threads(threads);
    for (Version &version : versions) version.microseconds.clear();
    const auto end = Clock::now() + std::chrono::duration<double, std::milli>(milliseconds);
    do {
        for (Version &version : versions) {
            fixture.use(version.kernel);
            version.microseconds.push_back(fixture.time());
        }
    } while (Clock::now() < end);
    for (Version &version : versions) {
        std::sort(version.microseconds.begin(), version.microseconds.end());
        version.result["microseconds"][std::to_string(threads)] = {
            {"min", version.microseconds.front()},
            {"fast", version.microseconds[version.microseconds.size() / 20]},
            {"median", version.microseconds[version.microseconds.size() / 2]}};
    }
}

Version read_version(const Json &object, const std::string &symbol) {
    void *handle = read_object(object.at("bytes"));
    const auto function = reinterpret_cast<shufflenet_kernel_fn>(find_function(handle, symbol));
    return {{function, {object.at("lanes").at(0), object.at("lanes").at(1)}}, Json::object(), {}};
}

void trial() {
    std::string line;
    std::getline(std::cin, line);
    const Json request = Json::parse(line);
    std::vector<Version> versions;
    for (const Json &object : request.at("objects")) versions.push_back(read_version(object, request.at("symbol")));
    Fixture fixture(request);
    fixture.use(versions.at(0).kernel);
    const std::vector<float> expected = fixture.outputs();
    versions.erase(versions.begin());
    for (Version &version : versions) {
        fixture.use(version.kernel);
        version.result["error"] = worst_error(fixture.outputs(), expected);
    }
    for (const int threads : request.at("threads")) {
        time_in_turn(fixture, versions, threads, request.at("milliseconds"));
    }
    Json trials = Json::array();
    for (const Version &version : versions) trials.push_back(version.result);
    std::cout << Json{{"trials", trials}}.dump() << std::endl;
}

}  // namespace

}  // namespace shufflenet::bench

int main() {
    try {
        shufflenet::bench::trial();
        return 0;
    } catch (const std::exception &error) {
        std::cerr << "kernel_trial: error: " << error.what() << '\n';
        return 1;
    }
}
