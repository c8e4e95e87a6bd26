#include "onnxruntime.h"

#include <dlfcn.h>

#include <stdexcept>

namespace shufflenet::bench {

namespace {

// The C API is a table of function pointers to which versions only append (onnxruntime_c_api.h, struct OrtApi), so
// the few that are needed can be named by their place without the header, which the package does not hold.
enum Entry {
    kGetErrorMessage = 2,
    kCreateEnv = 3,
    kCreateSession = 7,
    kRun = 9,
    kCreateSessionOptions = 10,
    kSetSessionGraphOptimizationLevel = 23,
    kSetIntraOpNumThreads = 24,
    kSessionGetInputName = 36,
    kSessionGetOutputName = 37,
    kCreateTensorWithDataAsOrtValue = 49,
    kCreateCpuMemoryInfo = 69,
    kGetAllocatorWithDefaultOptions = 78,
    kReleaseEnv = 92,
    kReleaseStatus = 93,
    kReleaseMemoryInfo = 94,
    kReleaseSession = 95,
    kReleaseValue = 96,
    kReleaseSessionOptions = 100,
};
constexpr uint32_t kApiVersion = 14;
constexpr int kWarning = 2, kAllOptimizations = 99, kArenaAllocator = 1, kDefaultMemory = 0, kFloat = 1;

struct ApiBase {
    void *const *(*get_api)(uint32_t version);
    const char *(*version)();
};

}  // namespace

struct OnnxRuntime::State {
    void *const *api = nullptr;
    std::string version, input_name, output_name;
    void *env = nullptr, *options = nullptr, *session = nullptr, *memory = nullptr;

    template <typename... Args>
    void call(Entry entry, Args... args) const {
        void *status = reinterpret_cast<void *(*)(Args...)>(api[entry])(args...);
        if (status == nullptr) return;
        const std::string message = reinterpret_cast<const char *(*)(void *)>(api[kGetErrorMessage])(status);
        release(kReleaseStatus, status);
        throw std::runtime_error("ONNX Runtime: " + message);
    }
    void release(Entry entry, void *object) const {
        if (object != nullptr) reinterpret_cast<void (*)(void *)>(api[entry])(object);
    }
    ~State() {
        if (api == nullptr) return;
        release(kReleaseMemoryInfo, memory);
        release(kReleaseSession, session);
        release(kReleaseSessionOptions, options);
        release(kReleaseEnv, env);
    }
};

OnnxRuntime::OnnxRuntime(const std::string &library, const std::string &model, int threads)
    : state_(std::make_unique<State>()) {
    // Never closed: its threads and static objects do not survive that.
    void *handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) throw std::runtime_error(library + ": " + dlerror());
    auto *get_base = reinterpret_cast<const ApiBase *(*)()>(dlsym(handle, "OrtGetApiBase"));
    if (get_base == nullptr) throw std::runtime_error(library + ": no OrtGetApiBase in it");
    State &s = *state_;
    s.version = get_base()->version();
    s.api = get_base()->get_api(kApiVersion);
    if (s.api == nullptr) throw std::runtime_error(library + ": version " + s.version + " is too old");

    s.call(kCreateEnv, kWarning, "shufflenet", &s.env);
    s.call(kCreateSessionOptions, &s.options);
    s.call(kSetSessionGraphOptimizationLevel, s.options, kAllOptimizations);
    s.call(kSetIntraOpNumThreads, s.options, threads);
    s.call(kCreateSession, s.env, model.c_str(), s.options, &s.session);
    s.call(kCreateCpuMemoryInfo, kArenaAllocator, kDefaultMemory, &s.memory);
    void *allocator = nullptr;
    s.call(kGetAllocatorWithDefaultOptions, &allocator);
    char *name = nullptr;
    s.call(kSessionGetInputName, s.session, size_t{0}, allocator, &name);
    s.input_name = name;
    s.call(kSessionGetOutputName, s.session, size_t{0}, allocator, &name);
    s.output_name = name;
}

OnnxRuntime::~OnnxRuntime() = default;

void OnnxRuntime::run(std::span<float> input, std::span<const int64_t> shape, std::span<float> output,
                      std::span<const int64_t> output_shape) {
    const State &s = *state_;
    const auto tensor = [&s](std::span<float> data, std::span<const int64_t> dimensions) {
        void *value = nullptr;
        s.call(kCreateTensorWithDataAsOrtValue, s.memory, static_cast<void *>(data.data()), data.size_bytes(),
               dimensions.data(), dimensions.size(), kFloat, &value);
        return value;
    };
    void *in = tensor(input, shape);
    void *out = tensor(output, output_shape);
    const char *input_name = s.input_name.c_str();
    const char *output_name = s.output_name.c_str();
    s.call(kRun, s.session, static_cast<void *>(nullptr), &input_name, static_cast<void *const *>(&in), size_t{1},
           &output_name, size_t{1}, &out);
    s.release(kReleaseValue, in);
    s.release(kReleaseValue, out);
}

const std::string &OnnxRuntime::version() const { return state_->version; }

}  // namespace shufflenet::bench
