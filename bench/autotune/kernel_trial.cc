// Times one kernel in several versions, each from a shared object, in turn. A process of its own, so that a version
// which crashes or hangs takes nothing else with it, and so that it can run on another machine.
//
// Standard input: a line of JSON, then the bytes of the shared objects one after another:
//   {"network": "shufflenet_v2_x1_0", "height": 224, "width": 224, "target": "avx512", "kernel": "stage3_basic",
//    "calls": 7, "counts": [1, 2], "milliseconds": 300, "objects": [{"symbol": "k", "bytes": 12345}, ...]}
// Counts are of threads, or on a device of images. The first object is the oracle: it runs once, and is not timed; a
// device's has all kernels of the network. Standard output, a line of JSON:
//   {"trials": [{"error": 1e-7, "microseconds": {"1": {"min": 1.5, "fast": 1.5, "median": 1.6},
//    "2": ...}}, ...]}, and "device": as its driver names it, if it is one.
// "fast" is the 5th percentile: what the kernel takes when nothing disturbs it, without the luck of a single run.
// "error" is the worst difference from the oracle, as a share of the oracle's range.
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
#include <span>
#include <stdexcept>

#include "bed.h"
#include "networks/devices.h"
#include "reference/random_weights.h"
#include "runtime/src/backbone.h"
#include "runtime/src/halide_hooks.h"
#include "runtime/src/isa.h"
#include "runtime/src/safetensors.h"

// The kernels here come straight from the generator: their Halide hooks have not been renamed yet.
extern "C" {
void *halide_malloc(void *user_context, size_t x) { return SHUFFLENET_HALIDE(malloc)(user_context, x); }
void halide_free(void *user_context, void *ptr) { SHUFFLENET_HALIDE(free)(user_context, ptr); }
void halide_error(void *user_context, const char *message) { SHUFFLENET_HALIDE(error)(user_context, message); }
int halide_copy_to_device(void *context, halide_buffer_t *buffer, const halide_device_interface_t *interface) {
    return SHUFFLENET_HALIDE(copy_to_device)(context, buffer, interface);
}
int halide_device_malloc(void *context, halide_buffer_t *buffer, const halide_device_interface_t *interface) {
    return SHUFFLENET_HALIDE(device_malloc)(context, buffer, interface);
}
int halide_do_par_for(void *user_context, halide_task_t task, int min, int size, uint8_t *closure) {
    return SHUFFLENET_HALIDE(do_par_for)(user_context, task, min, size, closure);
}
}

// The device hooks, likewise: ours are hidden.
extern "C" {
#define FORWARD_DEVICE_HOOKS(api)                                                                                \
    int halide_##api##_initialize_kernels(void *context, void **state, const char *source, int size) {           \
        return SHUFFLENET_HALIDE(api##_initialize_kernels)(context, state, source, size);                        \
    }                                                                                                            \
    int halide_##api##_run(void *context, void *state, const char *name, int bx, int by, int bz, int tx, int ty, \
                           int tz, int shared, size_t sizes[], void *values[], int8_t is_buffer[]) {             \
        return SHUFFLENET_HALIDE(api##_run)(context, state, name, bx, by, bz, tx, ty, tz, shared, sizes, values, \
                                            is_buffer);                                                          \
    }                                                                                                            \
    void halide_##api##_finalize_kernels(void *context, void *state) {                                           \
        SHUFFLENET_HALIDE(api##_finalize_kernels)(context, state);                                               \
    }                                                                                                            \
    const halide_device_interface_t *halide_##api##_device_interface() {                                         \
        return SHUFFLENET_HALIDE(api##_device_interface)();                                                      \
    }
FORWARD_DEVICE_HOOKS(cuda)
FORWARD_DEVICE_HOOKS(opencl)
}

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::json;

constexpr uint64_t kSeed = 7;
constexpr int kClasses = 1000;
// More than a core has for itself, of any kind.
constexpr size_t kPrivateCacheBytes = 4 << 20;

// The oracle keeps whole tensors where the product keeps strips.
constexpr size_t kOracleScratchBytes = 64 << 20;

int no_kernel(const void *, halide_buffer_t *, halide_buffer_t *, halide_buffer_t *, halide_buffer_t *,
              halide_buffer_t *) {
    return 0;
}

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

class CpuBed final : public Bed {
  public:
    explicit CpuBed(const Json &request)
        : network_(*find_network(request.at("network").get<std::string>())),
          kernel_(request.at("kernel")),
          isa_(request.at("target")) {
        descriptor_.abi = SHUFFLENET_VERSION_NUMBER;
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
        const std::vector<int> threads = request.at("counts");
        scratch_memory_.resize(*std::ranges::max_element(threads));
        for (auto &memory : scratch_memory_) {
            if (!memory.allocate(kOracleScratchBytes)) throw std::bad_alloc();
            scratch_.push_back({.begin = memory.data(), .size = memory.size()});
        }
        if (!arena_.allocate(backbone_.arena.size)) throw std::bad_alloc();
    }

    void use(void *function) override {
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

    std::vector<float> outputs() override {
        for (size_t i = 0; i < arena_.size(); ++i) arena_.data()[i] = static_cast<float>(i * 7919 % 1009) / 1009;
        std::fill(logits_.begin(), logits_.end(), 0.0F);
        run(nullptr);
        // The oracle came first: from here on kernels have as much scratch memory as in the product.
        for (Scratch &scratch : scratch_) scratch.size = kScratchBytes;
        std::vector<float> all(arena_.data(), arena_.data() + arena_.size());
        all.insert(all.end(), logits_.begin(), logits_.end());
        return all;
    }

    void set_count(int count) override {
        pool_ = std::make_unique<ThreadPool>();
        check(pool_->start(count));
        elsewhere_.resize(pool_->active(), std::vector<float>(kPrivateCacheBytes / sizeof(float)));
    }

    double time() override {
        prepare();
        const auto start = Clock::now();
        run(pool_.get());
        const std::chrono::duration<double, std::micro> took = Clock::now() - start;
        return took.count();
    }

  private:
    static void check(const Status &status) {
        if (!status.ok()) throw std::runtime_error(status.message());
    }

    void run(ThreadPool *pool) {
        KernelError error;
        KernelContext context{.pool = pool, .scratch = scratch_.data(), .error = &error};
        ImageRun run(backbone_, weights_, arena_.data(), context);
        if (!call(run)) throw std::runtime_error(std::string(run.failed().view()) + ": " + error.message.data());
    }

    /// Nearly as the rest of a network leaves things: weights are out of every core's own caches, but in the one that
    /// cores share; the threads, which are awake, have just read a share of the input each.
    void prepare() {
        const auto prepare_thread = [](void *argument, int task, int /*thread*/) {
            const auto &bed = *static_cast<CpuBed *>(argument);
            read(bed.elsewhere_[task]);
            const std::span<const float> all = bed.input();
            const size_t share = all.size() / bed.elsewhere_.size();
            read(all.subspan(task * share, share));
        };
        pool_->run(pool_->active(), prepare_thread, this);
    }

    /// Reads a float of every line.
    static void read(std::span<const float> memory) {
        float sum = 0;
        for (size_t i = 0; i < memory.size(); i += kLineFloats) sum += memory[i];
        volatile float sink = sum;
        static_cast<void>(sink);
    }

    std::span<const float> input() const {
        const ArenaLayout &at = backbone_.arena;
        if (kernel_ == "stem") return image_;
        if (kernel_ == "fc") return {arena_.data() + at.pooled, size_t(backbone_.pooled_stride)};
        const int from = kernel_.starts_with("conv5") ? kStages - 1 : stage() - 2 - (basic() ? 0 : 1);
        if (from < 0) return {arena_.data() + at.stem, size_t(backbone_.stem.size())};
        return {arena_.data() + at.stage[from], size_t(backbone_.blocks[from].size())};
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
    std::unique_ptr<ThreadPool> pool_;
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

struct Version {
    void *function;
    Json result;
    std::vector<double> microseconds;
};

/// Runs the versions in turn until the time is over; fills their microseconds.
void time_in_turn(Bed &bed, std::vector<Version> &versions, int count, double milliseconds) {
    bed.set_count(count);
    for (Version &version : versions) version.microseconds.clear();
    const auto end = Clock::now() + std::chrono::duration<double, std::milli>(milliseconds);
    do {
        for (Version &version : versions) {
            bed.use(version.function);
            version.microseconds.push_back(bed.time());
        }
    } while (Clock::now() < end);
    for (Version &version : versions) {
        std::sort(version.microseconds.begin(), version.microseconds.end());
        version.result["microseconds"][std::to_string(count)] = {
            {"min", version.microseconds.front()},
            {"fast", version.microseconds[version.microseconds.size() / 20]},
            {"median", version.microseconds[version.microseconds.size() / 2]}};
    }
}

void trial() {
    std::string line;
    std::getline(std::cin, line);
    const Json request = Json::parse(line);
    std::vector<Version> versions;
    void *oracle = nullptr;
    for (const Json &object : request.at("objects")) {
        void *handle = read_object(object.at("bytes"));
        if (oracle == nullptr) oracle = handle;
        versions.push_back({find_function(handle, object.at("symbol")), Json::object(), {}});
    }
    const bool device = find_device(request.at("target").get<std::string>()) != nullptr;
    const std::unique_ptr<Bed> bed = device ? make_device_bed(request, oracle) : std::make_unique<CpuBed>(request);
    bed->use(versions.front().function);
    const std::vector<float> expected = bed->outputs();
    versions.erase(versions.begin());
    for (Version &version : versions) {
        bed->use(version.function);
        version.result["error"] = worst_error(bed->outputs(), expected);
    }
    for (const int count : request.at("counts")) time_in_turn(*bed, versions, count, request.at("milliseconds"));
    Json trials = Json::array();
    for (const Version &version : versions) trials.push_back(version.result);
    Json answer = {{"trials", trials}};
    if (device) answer["device"] = bed->device();
    std::cout << answer.dump() << std::endl;
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
