// Times one kernel in several versions, each from a shared object, in turn. A process of its own, so that a version
// which crashes or hangs takes nothing else with it, and so that it can run on another machine.
//
// Standard input: a line of JSON, then the bytes of the shared objects one after another:
//   {"network": "shufflenet_v2_x1_0", "height": 224, "width": 224, "isa": "avx512", "kernel": "stage3_basic",
//    "threads": [1, 2], "milliseconds": 300, "objects": [{"symbol": "k", "bytes": 12345}, ...]}
// The first object is the oracle: it runs once, and is not timed. Standard output, a line of JSON:
//   {"trials": [{"error": 1e-7, "microseconds": {"1": {"min": 1.5, "fast": 1.5, "median": 1.6},
//    "2": ...}}, ...]}
// "fast" is the 5th percentile: what the kernel takes when nothing disturbs it, without the luck of a single run.
// "error" is the worst difference from the oracle, as a share of the oracle's range.
#include <HalideRuntime.h>
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "cache_line.h"
#include "reference/random_weights.h"
#include "runtime/src/backbone.h"
#include "runtime/src/isa.h"
#include "runtime/src/safetensors.h"

// The kernels here come straight from the generator: their Halide hooks have not been renamed yet.
extern "C" {
void *shufflenet_halide_malloc(void *context, size_t size);
void shufflenet_halide_free(void *context, void *memory);
void shufflenet_halide_error(void *context, const char *message);
int shufflenet_halide_do_par_for(void *context, halide_task_t body, int first, int size, uint8_t *closure);

void *halide_malloc(void *user_context, size_t x) { return shufflenet_halide_malloc(user_context, x); }
void halide_free(void *user_context, void *ptr) { shufflenet_halide_free(user_context, ptr); }
void halide_error(void *user_context, const char *message) { shufflenet_halide_error(user_context, message); }
int halide_do_par_for(void *user_context, halide_task_t task, int min, int size, uint8_t *closure) {
    return shufflenet_halide_do_par_for(user_context, task, min, size, closure);
}
}

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

constexpr uint64_t kSeed = 7;
constexpr int kClasses = 1000;

// The oracle keeps whole tensors where the product keeps strips.
constexpr size_t kOracleScratchBytes = 64 << 20;

int no_kernel(const void *, halide_buffer_t *, halide_buffer_t *, halide_buffer_t *, halide_buffer_t *,
              halide_buffer_t *) {
    return 0;
}

/// The shared object whose bytes come next on standard input.
void *read_object(size_t size, const std::string &symbol) {
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
    void *function = dlsym(handle, symbol.c_str());
    if (function == nullptr) throw std::runtime_error("no " + symbol + " in the shared object");
    return function;
}

/// One kernel of a network with everything that it reads and writes.
class Bed {
  public:
    Bed(const Json &request, int most_threads)
        : network_(*find_network(request.at("network").get<std::string>())),
          kernel_(request.at("kernel")),
          isa_(request.at("isa")) {
        descriptor_.network = network_.name.data();
        descriptor_.height = request.at("height");
        descriptor_.width = request.at("width");
        if (!cpu_has(isa_)) throw std::runtime_error("this CPU does not have " + isa_);
        kernels_.isa = isa_.c_str();
        backbone_ = make_backbone(descriptor_, kernels_, network_);

        const auto file = reference::random_safetensors(network_, kClasses, kSeed);
        Safetensors tensors;
        check(Safetensors::parse(file, "random weights", &tensors));
        check(pack_weights(tensors, "random weights", network_, backbone_.input, kPanelFloats, &weights_));
        image_ = reference::random_input(backbone_.input, 1, kSeed);
        logits_.resize(kClasses);
        scratch_memory_.resize(most_threads);
        for (auto &memory : scratch_memory_) {
            if (!memory.allocate(kOracleScratchBytes)) throw std::bad_alloc();
            scratch_.push_back({.begin = memory.data(), .size = memory.size()});
        }
        if (!arena_.allocate(backbone_.arena.size)) throw std::bad_alloc();
    }

    /// From here on kernels have as much scratch memory as in the product.
    void limit_scratch() {
        for (Scratch &scratch : scratch_) scratch.size = kScratchBytes;
    }

    /// Puts a version of the kernel in its place.
    void use(void *function) {
        const auto kernel = reinterpret_cast<shufflenet_branch_fn>(function);
        kernels_ = {};
        kernels_.isa = isa_.c_str();
        for (int s = 0; s < kStages; ++s) {
            const std::string stage = "stage" + std::to_string(s + 2);
            kernels_.down_branch1[s] = kernel_ == stage + "_down_branch1" ? kernel : no_kernel;
            kernels_.down_branch2[s] = kernel_ == stage + "_down_branch2" ? kernel : no_kernel;
            kernels_.basic[s] = kernel;
        }
        kernels_.stem = reinterpret_cast<shufflenet_stem_fn>(function);
        kernels_.conv5 = kernels_.conv5_pool = reinterpret_cast<shufflenet_conv5_fn>(function);
        kernels_.fc = reinterpret_cast<shufflenet_fc_fn>(function);
    }

    void run(ThreadPool *pool) {
        KernelContext context;
        context.pool = pool;
        context.scratch = scratch_.data();
        use_scratch(scratch_.data());
        ImageRun run(backbone_, weights_, arena_.data(), context);
        if (!call(run)) throw std::runtime_error(std::string(run.failed().view()) + ": " + context.message.data());
    }

    /// All that the kernel may have written, after a run on the same data as ever.
    std::vector<float> outputs() {
        for (size_t i = 0; i < arena_.size(); ++i) arena_.data()[i] = static_cast<float>(i * 7919 % 1009) / 1009;
        std::fill(logits_.begin(), logits_.end(), 0.0F);
        run(nullptr);
        std::vector<float> all(arena_.data(), arena_.data() + arena_.size());
        all.insert(all.end(), logits_.begin(), logits_.end());
        return all;
    }

    /// Weights out of the caches, as the rest of a network leaves them; activations stay, as the layer before does.
    void evict() {
        if (kernel_ == "stem") return evict(weights_.stem);
        if (kernel_ == "fc") return evict(weights_.fc);
        if (kernel_.starts_with("conv5")) return evict(weights_.conv5);
        const UnitWeights &unit = weights_.stages[stage() - 2][basic() ? 1 : 0];
        evict(kernel_.ends_with("branch1") ? unit.branch1 : unit.branch2);
    }

  private:
    static void check(const Status &status) {
        if (!status.ok()) throw std::runtime_error(status.message());
    }

    static void evict(const KernelWeights &kernel) {
        for (size_t i = 0; i < kernel.weights.size(); i += kLineFloats) evict_line(kernel.weights.data() + i);
    }

    bool call(ImageRun &run) {
        float *pooled = arena_.data() + backbone_.arena.pooled;
        if (kernel_ == "stem") return run.stem(image_.data());
        if (kernel_ == "conv5") return run.conv5();
        if (kernel_ == "conv5_pool") return run.pool(pooled);
        if (kernel_ == "fc") return run.fully_connected(pooled, 1, logits_.data());
        return run.unit(stage(), basic() ? 1 : 0);
    }
    int stage() const { return kernel_.at(5) - '0'; }
    bool basic() const { return kernel_.ends_with("_basic"); }

    const Network &network_;
    std::string kernel_, isa_;
    shufflenet_descriptor descriptor_{};
    shufflenet_kernels kernels_{};
    Backbone backbone_;
    PackedWeights weights_;
    std::vector<float> image_, logits_;
    AlignedArray<float> arena_;
    std::vector<AlignedArray<std::byte>> scratch_memory_;
    std::vector<Scratch> scratch_;
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

struct Version {
    void *function;
    Json result;
    std::vector<double> microseconds;
};

/// Runs the versions in turn until the time is over; fills their microseconds.
void time_in_turn(Bed &bed, std::vector<Version> &versions, int threads, double milliseconds) {
    ThreadPool pool;
    if (const Status status = pool.start(threads); !status.ok()) throw std::runtime_error(status.message());
    for (Version &version : versions) version.microseconds.clear();
    const auto end = Clock::now() + std::chrono::duration<double, std::milli>(milliseconds);
    do {
        for (Version &version : versions) {
            bed.use(version.function);
            bed.evict();
            const auto start = Clock::now();
            bed.run(&pool);
            const std::chrono::duration<double, std::micro> took = Clock::now() - start;
            version.microseconds.push_back(took.count());
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

void trial() {
    std::string line;
    std::getline(std::cin, line);
    const Json request = Json::parse(line);
    const std::vector<int> threads = request.at("threads");
    std::vector<Version> versions;
    for (const Json &object : request.at("objects")) {
        versions.push_back({read_object(object.at("bytes"), object.at("symbol")), Json::object(), {}});
    }
    Bed bed(request, *std::max_element(threads.begin(), threads.end()));
    bed.use(versions.front().function);
    const std::vector<float> expected = bed.outputs();
    versions.erase(versions.begin());
    bed.limit_scratch();
    for (Version &version : versions) {
        bed.use(version.function);
        version.result["error"] = worst_error(bed.outputs(), expected);
    }
    for (const int count : threads) time_in_turn(bed, versions, count, request.at("milliseconds"));
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
