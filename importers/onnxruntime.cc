#include "onnxruntime.h"

#include <dlfcn.h>

#include <stdexcept>

namespace shufflenet {

namespace {

// The C API is a table of function pointers to which versions only append (onnxruntime_c_api.h, struct OrtApi), so
// the few that are needed can be named by their place without the header, which the package does not hold.
enum Entry {
    kGetErrorMessage = 2,
    kCreateEnv = 3,
    kCreateSessionFromArray = 8,
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
constexpr int kError = 3, kAllOptimizations = 99, kArenaAllocator = 1, kDefaultMemory = 0, kFloat = 1;

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

/// ONNX Runtime's views of our tensors, for one run.
struct OnnxRuntime::Values {
    const State &state;
    std::vector<void *> all;

    explicit Values(const State &s) : state(s) {}
    Values(const Values &) = delete;
    Values &operator=(const Values &) = delete;
    ~Values() {
        for (void *value : all) state.release(kReleaseValue, value);
    }
    void *add(const Tensor &tensor) {
        void *value = nullptr;
        state.call(kCreateTensorWithDataAsOrtValue, state.memory, static_cast<void *>(tensor.data.data()),
                   tensor.data.size_bytes(), tensor.shape.data(), tensor.shape.size(), kFloat, &value);
        return all.emplace_back(value);
    }
};

std::optional<std::string> OnnxRuntime::find() {
    for (const char *name : {"libonnxruntime.so.1", "libonnxruntime.so"}) {
        if (dlopen(name, RTLD_NOW | RTLD_LOCAL) != nullptr) return name;
    }
    return std::nullopt;
}

OnnxRuntime::OnnxRuntime(const std::string &library, std::span<const std::byte> model, int threads)
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

    s.call(kCreateEnv, kError, "shufflenet", &s.env);
    s.call(kCreateSessionOptions, &s.options);
    s.call(kSetSessionGraphOptimizationLevel, s.options, kAllOptimizations);
    s.call(kSetIntraOpNumThreads, s.options, threads);
    s.call(kCreateSessionFromArray, s.env, static_cast<const void *>(model.data()), model.size(), s.options,
           &s.session);
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

void OnnxRuntime::run(const Tensor &input, std::span<const Tensor> outputs) {
    const State &s = *state_;
    Values values(s);
    void *const in = values.add(input);
    std::vector<void *> out;
    std::vector<const char *> names;
    for (const Tensor &output : outputs) {
        out.push_back(values.add(output));
        names.push_back(output.name.c_str());
    }
    const char *input_name = input.name.c_str();
    s.call(kRun, s.session, static_cast<void *>(nullptr), &input_name, static_cast<void *const *>(&in), size_t{1},
           static_cast<const char *const *>(names.data()), names.size(), out.data());
}

const std::string &OnnxRuntime::version() const { return state_->version; }
const std::string &OnnxRuntime::input_name() const { return state_->input_name; }
const std::string &OnnxRuntime::output_name() const { return state_->output_name; }

}  // namespace shufflenet
