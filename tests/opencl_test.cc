// The OpenCL side of the runtime on a real driver: contexts, queues and memory of the caller's, and errors.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <signal.h>

#include <algorithm>
#include <optional>

#include "blocked_signals.h"
#include "expected.h"
#include "opencl_checks.h"
#include "shufflenet/device.h"
#include "test_models.h"

namespace shufflenet {
namespace {

using Handle = void *;

const shufflenet_descriptor &descriptor(std::string_view name = "tiny_1x1") {
    return **std::ranges::find_if(kTestModels, [name](const auto *m) { return m->name == name; });
}

template <typename F>
F *function(const char *name) {
    static void *const library = dlopen("libOpenCL.so.1", RTLD_NOW);
    return reinterpret_cast<F *>(dlsym(library, name));
}

/// What a program that uses OpenCL by itself has.
struct Caller {
    Handle platform = nullptr, device = nullptr, context = nullptr, queue = nullptr;

    Caller() {
        function<int(unsigned, Handle *, unsigned *)>("clGetPlatformIDs")(1, &platform, nullptr);
        constexpr uint64_t kAllTypes = 0xFFFFFFFF;
        function<int(Handle, uint64_t, unsigned, Handle *, unsigned *)>("clGetDeviceIDs")(platform, kAllTypes, 1,
                                                                                          &device, nullptr);
        context = function<Handle(const void *, unsigned, Handle *, void *, void *, int *)>("clCreateContext")(
            nullptr, 1, &device, nullptr, nullptr, nullptr);
        queue = function<Handle(Handle, Handle, uint64_t, int *)>("clCreateCommandQueue")(context, device, 0, nullptr);
    }
    ~Caller() {
        function<int(Handle)>("clReleaseCommandQueue")(queue);
        function<int(Handle)>("clReleaseContext")(context);
    }
    Caller(const Caller &) = delete;
    Caller &operator=(const Caller &) = delete;

    Handle buffer(size_t floats) const {
        constexpr uint64_t kReadWrite = 1;
        return function<Handle(Handle, uint64_t, size_t, void *, int *)>("clCreateBuffer")(
            context, kReadWrite, floats * sizeof(float), nullptr, nullptr);
    }
    void write(Handle to, std::span<const float> from) const {
        function<int(Handle, Handle, unsigned, size_t, size_t, const void *, unsigned, const Handle *, Handle *)>(
            "clEnqueueWriteBuffer")(queue, to, 1, 0, from.size_bytes(), from.data(), 0, nullptr, nullptr);
    }
    void read(Handle from, std::span<float> to) const {
        function<int(Handle, Handle, unsigned, size_t, size_t, void *, unsigned, const Handle *, Handle *)>(
            "clEnqueueReadBuffer")(queue, from, 1, 0, to.size_bytes(), to.data(), 0, nullptr, nullptr);
    }
};

DeviceOptions opencl_options() {
    DeviceOptions options;
    options.device = "opencl";
    options.max_batch = kImages;
    return options;
}

void expect_error(const Status &status, Code code, const std::string &text) {
    EXPECT_EQ(status.code(), code);
    EXPECT_NE(status.message().find(text), std::string::npos) << status.message();
}

// First, because the driver starts its threads once.
TEST(OpenCl, ThreadsOfTheDriverTakeNoSignals) {
    const auto before = blocked_signals();
    DeviceModel model;
    ASSERT_TRUE(model.open(descriptor(), opencl_options()).ok());
    ASSERT_TRUE(model.load_weights(expected_of(descriptor()).safetensors, "random weights").ok());
    for (const auto &[thread, blocked] : blocked_signals()) {
        for (const int signal : {SIGTERM, SIGINT, SIGUSR1, SIGCHLD}) {
            const uint64_t bit = uint64_t{1} << (signal - 1);
            EXPECT_EQ(blocked & bit, before.contains(thread) ? before.at(thread) & bit : bit) << "signal " << signal;
        }
    }
}

TEST(OpenCl, UsesTheCallersContextQueueAndMemory) {
    const Caller caller;
    const Expected &expected = expected_of(descriptor());
    const auto classes = static_cast<size_t>(descriptor().classes);
    Handle in = caller.buffer(expected.input.size()), out = caller.buffer(kImages * classes);
    std::vector<float> logits(kImages * classes, NAN);
    {
        DeviceModel model;
        DeviceOptions options = opencl_options();
        options.context = caller.context;
        options.stream = caller.queue;
        ASSERT_TRUE(model.open(descriptor(), options).ok());
        ASSERT_TRUE(model.load_weights(expected.safetensors, "random weights").ok());
        caller.write(in, expected.input);
        const Status status = model.enqueue(reinterpret_cast<uintptr_t>(in), kImages, reinterpret_cast<uintptr_t>(out));
        ASSERT_TRUE(status.ok()) << status.message();
        // In the queue's order: after the kernels.
        caller.read(out, logits);
    }
    for (int i = 0; i < kImages; ++i) {
        EXPECT_LE(worst_error(std::span(logits).subspan(i * classes, classes), expected.results[i][0].data),
                  kTolerance);
    }
    function<int(Handle)>("clReleaseMemObject")(in);
    function<int(Handle)>("clReleaseMemObject")(out);
}

TEST(OpenCl, TheCallersContextAndQueueStayWhileAModelHasThem) {
    const Expected &expected = expected_of(descriptor());
    opencl_checks = {};
    std::optional<Caller> caller(std::in_place);
    DeviceModel model;
    DeviceOptions options = opencl_options();
    options.context = caller->context;
    options.stream = caller->queue;
    ASSERT_TRUE(model.open(descriptor(), options).ok());
    caller.reset();
    const Status loaded = model.load_weights(expected.safetensors, "random weights");
    ASSERT_TRUE(loaded.ok()) << loaded.message();
    std::vector<float> logits(size_t(kImages) * descriptor().classes, NAN);
    const Status status = model.run(expected.input, kImages, logits);
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_LE(worst_error(std::span(logits).first(descriptor().classes), expected.results[0][0].data), kTolerance);
    model = DeviceModel();
    EXPECT_EQ(opencl_checks.dangling, 0);
}

/// A buffer and a part of it, or two parts that overlap, must not be read and written by one kernel; nor does any of
/// ours write to a buffer that it reads.
TEST(OpenCl, NoKernelHasMemoryObjectsThatOverlap) {
    const shufflenet_descriptor &d = descriptor("prime_32x32");
    opencl_checks = {};
    DeviceModel model;
    ASSERT_TRUE(model.open(d, opencl_options()).ok());
    ASSERT_TRUE(model.load_weights(expected_of(d).safetensors, "random weights").ok());
    std::vector<float> logits(size_t(kImages) * d.classes);
    ASSERT_TRUE(model.run(expected_of(d).input, kImages, logits).ok());
    EXPECT_EQ(opencl_checks.launches, static_cast<int>(model.kernels(kImages).size()));
    EXPECT_EQ(opencl_checks.overlapping, 0);
    EXPECT_EQ(opencl_checks.shared, 0);
}

TEST(OpenCl, AContextWithoutDevicesIsAnError) {
    const Caller caller;
    DeviceModel model;
    DeviceOptions options = opencl_options();
    options.context = caller.context;
    opencl_checks.context_without_devices = true;
    expect_error(model.open(descriptor(), options), Code::kUnsupported, "opencl: no device: the context has none");
    opencl_checks.context_without_devices = false;
    EXPECT_TRUE(model.open(descriptor(), options).ok());
}

TEST(OpenCl, Errors) {
    DeviceModel model;
    DeviceOptions options = opencl_options();
    options.graph = true;
    expect_error(model.open(descriptor(), options), Code::kUnsupported, "opencl has no graphs");
    options = opencl_options();
    options.index = 1000;
    expect_error(model.open(descriptor(), options), Code::kUnsupported, "device 1000: expected 0 to ");
    options.index = -1;
    expect_error(model.open(descriptor(), options), Code::kUnsupported, "device -1: expected 0 to ");
    ASSERT_TRUE(model.open(descriptor(), opencl_options()).ok());
    expect_error(model.load_weights({}, "empty"), Code::kBadInput, "empty");
    const std::vector<float> input(3);
    std::vector<float> logits(model.classes());
    expect_error(model.run(input, 1, logits), Code::kBadInput, "before weights were loaded");
}

}  // namespace
}  // namespace shufflenet
