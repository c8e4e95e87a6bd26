// The CUDA side of the runtime, against a driver that checks and records (fake_cuda/): contexts, streams, memory,
// launches, graphs, threads and errors.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <thread>

#include "allocation_count.h"
#include "fake_cuda/fake_cuda.h"
#include "model_graph.h"
#include "reference/random_weights.h"
#include "shufflenet/device.h"
#include "test_models.h"

namespace shufflenet {
namespace {

constexpr int kMaxBatch = 4;
constexpr int kResultOutOfMemory = 2;
constexpr int kResultIllegalAddress = 700;

const shufflenet_descriptor &descriptor() {
    return **std::ranges::find_if(kTestModels,
                                  [](const auto *m) { return std::string_view(m->name) == "prime_32x32"; });
}

std::vector<std::byte> weights(int classes = descriptor().classes) {
    return reference::random_safetensors(graph_with_classes(descriptor(), classes), 7);
}

DeviceOptions cuda_options() {
    DeviceOptions options;
    options.device = "cuda";
    options.max_batch = kMaxBatch;
    return options;
}

int launches(const DeviceModel &model, int batch) { return static_cast<int>(model.kernels(batch).size()); }

size_t image_floats() { return size_t{3} * descriptor().height * descriptor().width; }

class Cuda : public testing::Test {
  protected:
    void SetUp() override { fake_cuda_reset(); }
    void TearDown() override {
        EXPECT_STREQ(fake_.misuse, "");
        EXPECT_EQ(fake_.bytes_live, 0U);
        EXPECT_EQ(fake_.allocations, fake_.frees);
        EXPECT_EQ(fake_.streams_made, fake_.streams_destroyed);
        EXPECT_EQ(fake_.modules_loaded, fake_.modules_unloaded);
        EXPECT_EQ(fake_.graphs_made, fake_.graphs_destroyed);
        EXPECT_EQ(fake_.primary_retained, fake_.primary_released);
        EXPECT_EQ(fake_cuda_current(), nullptr);
    }
    static DeviceModel opened(const DeviceOptions &options = cuda_options()) {
        DeviceModel model;
        const Status opened = model.open(descriptor(), options);
        EXPECT_TRUE(opened.ok()) << opened.message();
        const Status loaded = model.load_weights(weights(), "random weights");
        EXPECT_TRUE(loaded.ok()) << loaded.message();
        return model;
    }
    static Status load(DeviceModel &model, const shufflenet_descriptor &d) {
        return model.load_weights(reference::random_safetensors(graph_of(d), 7), "random");
    }
    static Status run(DeviceModel &model, int batch) {
        const std::vector<float> input(batch * image_floats(), 0.5F);
        std::vector<float> logits(size_t(batch) * model.classes());
        return model.run(input, batch, logits);
    }
    static void expect_error(const Status &status, Code code, const std::string &text) {
        EXPECT_EQ(status.code(), code);
        EXPECT_NE(status.message().find(text), std::string::npos) << status.message();
        EXPECT_EQ(status.message().find('\n'), std::string::npos);
    }

    fake_cuda &fake_ = *fake_cuda_state();
};

TEST_F(Cuda, EveryRunLaunchesItsKernelsOnceAndTakesNoMemory) {
    DeviceModel model = opened();
    EXPECT_EQ(fake_.launches, 0) << "preparing launches nothing";
    EXPECT_EQ(model.device_name(), "Fake GPU 0");
    ASSERT_EQ(cuCtxPushCurrent_v2(fake_cuda_callers_context()), 0);
    for (const int batch : {1, kMaxBatch, 2}) {
        // Memory of the model's own context.
        std::vector<float> in(batch * image_floats()), out(size_t(batch) * model.classes());
        ASSERT_TRUE(model.run(in, batch, out).ok());
        const int before = fake_.launches, taken = fake_.allocations;
        const long heap = allocation_count();
        ASSERT_TRUE(model.run(in, batch, out).ok());
        EXPECT_EQ(allocation_count(), heap);
        EXPECT_EQ(fake_.allocations, taken);
        EXPECT_EQ(fake_.launches - before, launches(model, batch));
        EXPECT_EQ(fake_cuda_current(), fake_cuda_callers_context());
    }
    void *popped = nullptr;
    cuCtxPopCurrent_v2(&popped);
    EXPECT_EQ(fake_.primary_retained, 1);
    // A chain's kernels differ; its grid grows with the batch.
    const fake_cuda_launch &one = fake_.launch[0], &four = fake_.launch[2 * launches(model, 1)];
    EXPECT_STREQ(one.kernel, four.kernel);
    EXPECT_EQ(one.blocks[0] * one.blocks[1] * one.blocks[2] * kMaxBatch,
              four.blocks[0] * four.blocks[1] * four.blocks[2]);
}

/// A kernel computes each value once, in one way: with fused multiply-adds alone. Where threads shared out pixels with
/// some to spare, pixels had two writers, one of them in a copy of the loop that rounds products by themselves, and who
/// came last decided the last bit.
TEST_F(Cuda, AUnitsKernelRoundsInOneWay) {
    for (const shufflenet_descriptor *d : kTestModels) {
        SCOPED_TRACE(d->name);
        DeviceModel model;
        ASSERT_TRUE(model.open(*d, cuda_options()).ok());
        ASSERT_TRUE(load(model, *d).ok());
        const int before = fake_.launches;
        ASSERT_TRUE(model.enqueue(model.own_input(), 1, model.own_output()).ok());
        const std::vector<KernelCost> kernels = model.kernels(1);
        for (size_t i = 0; i < kernels.size(); ++i) {
            const fake_cuda_launch &launch = fake_.launch[before + i];
            if (kernels[i].id.find("_branch") == std::string::npos) continue;
            EXPECT_EQ(std::pair(launch.products, launch.sums), std::pair(0, 0)) << kernels[i].id;
        }
    }
}

TEST_F(Cuda, UsesTheCallersContextAndStream) {
    ASSERT_EQ(cuCtxPushCurrent_v2(fake_cuda_callers_context()), 0);
    void *stream = nullptr;
    ASSERT_EQ(cuStreamCreate(&stream, 0), 0);
    uint64_t input = 0, logits = 0;
    ASSERT_EQ(cuMemAlloc_v2(&input, sizeof(float) * image_floats()), 0);
    ASSERT_EQ(cuMemAlloc_v2(&logits, sizeof(float) * descriptor().classes), 0);
    {
        DeviceOptions options = cuda_options();
        options.context = fake_cuda_callers_context();
        options.stream = stream;
        DeviceModel model = opened(options);
        const int synchronizations = fake_.synchronizations;
        const long heap = allocation_count();
        ASSERT_TRUE(model.enqueue(input, 1, logits).ok());
        EXPECT_EQ(allocation_count(), heap);
        EXPECT_EQ(fake_.synchronizations, synchronizations) << "enqueue() waits";
        EXPECT_EQ(fake_.launches, launches(model, 1));
        for (int i = 0; i < fake_.launches; ++i) {
            EXPECT_EQ(fake_.launch[i].context, fake_cuda_callers_context());
            EXPECT_EQ(fake_.launch[i].stream, stream);
        }
        EXPECT_TRUE(model.synchronize().ok());
        expect_error(model.enqueue(input, kMaxBatch + 1, logits), Code::kBadInput,
                     "expected 1 to 4 (max_batch), found 5");
        expect_error(model.enqueue(0, 1, logits), Code::kBadInput, "null");
    }
    EXPECT_EQ(fake_.primary_retained, 0);
    EXPECT_EQ(fake_.streams_made, 1) << "beside the caller's stream";
    cuMemFree_v2(input);
    cuMemFree_v2(logits);
    cuStreamDestroy_v2(stream);
    void *popped = nullptr;
    cuCtxPopCurrent_v2(&popped);
}

TEST_F(Cuda, TheCallersPrimaryContextStaysWhileAModelHasIt) {
    DeviceOptions options = cuda_options();
    ASSERT_EQ(cuDevicePrimaryCtxRetain(&options.context, 0), 0);
    DeviceModel model = opened(options), other;
    ASSERT_TRUE(model.share(&other).ok());
    ASSERT_EQ(cuDevicePrimaryCtxRelease_v2(0), 0);
    EXPECT_TRUE(run(model, 1).ok());
    model = DeviceModel();
    EXPECT_TRUE(run(other, 1).ok());
    other = DeviceModel();
    EXPECT_EQ(fake_.primary_released, fake_.primary_retained);
}

/// Not that of the model, whose context cannot be pushed, and not nothing: what the caller pushed.
TEST_F(Cuda, AContextThatCannotBeEnteredLeavesTheCallers) {
    DeviceModel model = opened();
    const std::vector<float> input(image_floats());
    std::vector<float> logits(model.classes());
    DeviceModel other;
    const std::pair<const char *, std::function<Status()>> calls[] = {
        {"load", [&] { return model.load_weights(weights(), "again"); }},
        {"share", [&] { return model.share(&other); }},
        {"run", [&] { return model.run(input, 1, logits); }},
        {"enqueue", [&] { return model.enqueue(model.own_input(), 1, model.own_output()); }},
        {"synchronize", [&] { return model.synchronize(); }},
        {"open",
         [&] {
             DeviceOptions options = cuda_options();
             options.context = fake_cuda_callers_context();
             return other.open(descriptor(), options);
         }},
    };
    ASSERT_EQ(cuCtxPushCurrent_v2(fake_cuda_callers_context()), 0);
    for (const auto &[what, call] : calls) {
        SCOPED_TRACE(what);
        const int launched = fake_.launches, synchronized = fake_.synchronizations;
        fake_.fail_function = "cuCtxPushCurrent_v2";
        fake_.fail_result = kResultIllegalAddress;
        expect_error(call(), Code::kInternal, "cuCtxPushCurrent: fake error");
        fake_.fail_function = nullptr;
        EXPECT_EQ(fake_cuda_current(), fake_cuda_callers_context());
        EXPECT_EQ(fake_.launches, launched);
        EXPECT_EQ(fake_.synchronizations, synchronized);
    }
    EXPECT_TRUE(run(model, 1).ok());
    // What is of a context that has gone went with it.
    fake_.fail_function = "cuCtxPushCurrent_v2";
    const int frees = fake_.frees;
    model = DeviceModel();
    EXPECT_EQ(fake_.frees, frees);
    EXPECT_EQ(fake_cuda_current(), fake_cuda_callers_context());
    EXPECT_STREQ(fake_.misuse, "");
    void *popped = nullptr;
    cuCtxPopCurrent_v2(&popped);
    fake_cuda_reset();
}

TEST_F(Cuda, GraphsAreCapturedOnceAndReplayed) {
    DeviceOptions options = cuda_options();
    options.graph = true;
    DeviceModel model = opened(options);
    for (const int batch : {1, 3}) {
        const int captures = fake_.captures, before = fake_.launches;
        ASSERT_TRUE(run(model, batch).ok());
        EXPECT_EQ(fake_.captures, captures + 1);
        EXPECT_EQ(fake_.launches - before, launches(model, batch));
        for (int i = before; i < fake_.launches; ++i) EXPECT_TRUE(fake_.launch[i].captured) << i;
    }
    const int captures = fake_.captures, before = fake_.launches, replays = fake_.graph_launches;
    for (const int batch : {3, 1, 1}) ASSERT_TRUE(run(model, batch).ok());
    EXPECT_EQ(fake_.captures, captures);
    EXPECT_EQ(fake_.launches, before);
    EXPECT_EQ(fake_.graph_launches - replays, 3);
    // New weights have other addresses, and more classes other logits.
    for (const int more : {0, 5}) {
        const int captured = fake_.captures;
        ASSERT_TRUE(model.load_weights(weights(descriptor().classes + more), "again").ok());
        ASSERT_TRUE(run(model, 1).ok());
        EXPECT_EQ(fake_.captures, captured + 1);
    }
}

TEST_F(Cuda, WeightsThatFailLeaveGraphsAsTheyWere) {
    DeviceOptions options = cuda_options();
    options.graph = true;
    // Every call that loading makes of these may be the one that fails, also the one that clears larger logits.
    for (const char *function : {"cuMemAlloc_v2", "cuMemsetD8Async", "cuMemcpyHtoDAsync_v2"}) {
        for (int failing = 0;; ++failing) {
            SCOPED_TRACE(testing::Message() << function << " " << failing);
            fake_cuda_reset();
            DeviceModel model = opened(options);
            ASSERT_TRUE(run(model, 1).ok());
            fake_.fail_function = function;
            fake_.fail_after = failing;
            fake_.fail_result = kResultOutOfMemory;
            const Status status = model.load_weights(weights(descriptor().classes + 5), "more classes");
            fake_.fail_function = nullptr;
            EXPECT_TRUE(run(model, 1).ok());
            EXPECT_EQ(model.classes(), descriptor().classes + (status.ok() ? 5 : 0));
            if (status.ok()) break;
        }
    }
}

TEST_F(Cuda, SharedModelsHaveOneCopyOfWeightsAndModules) {
    DeviceModel model = opened();
    const int modules = fake_.modules_loaded, uploads = fake_.uploads;
    const size_t live = fake_.bytes_live;
    DeviceModel other;
    ASSERT_TRUE(model.share(&other).ok());
    EXPECT_EQ(fake_.modules_loaded, modules);
    EXPECT_EQ(fake_.uploads, uploads);
    EXPECT_EQ(fake_.bytes_live - live, model.activation_bytes());
    std::vector<std::thread> threads;
    for (DeviceModel *m : {&model, &other}) {
        threads.emplace_back([m] {
            for (int i = 0; i < 20; ++i) ASSERT_TRUE(run(*m, 1 + i % kMaxBatch).ok());
            EXPECT_EQ(fake_cuda_current(), nullptr);
        });
    }
    for (std::thread &thread : threads) thread.join();
    // What is shared outlives whoever made it.
    model = DeviceModel();
    EXPECT_TRUE(run(other, 1).ok());
}

TEST_F(Cuda, MachinesThatCannot) {
    DeviceModel model;
    DeviceOptions options = cuda_options();
    fake_.devices = 0;
    expect_error(model.open(descriptor(), options), Code::kUnsupported, "cuda: no device");
    fake_.devices = 2;
    options.index = 2;
    expect_error(model.open(descriptor(), options), Code::kUnsupported, "device 2: expected 0 to 1");
    options.index = 1;
    fake_.major = 6;
    fake_.minor = 1;
    expect_error(model.open(descriptor(), options), Code::kUnsupported,
                 "Fake GPU 1: has compute capability 6.1, expected 7.0 or newer");
    options.max_batch = 0;
    expect_error(model.open(descriptor(), options), Code::kBadInput, "max_batch: expected 1 to 4096, found 0");
    options = cuda_options();
    options.device = "vulkan";
    expect_error(model.open(descriptor(), options), Code::kBadInput, "vulkan");
    shufflenet_descriptor cpu_only = descriptor();
    cpu_only.devices_count = 0;
    expect_error(model.open(cpu_only, cuda_options()), Code::kUnsupported,
                 "without kernels for cuda, for the CPU only");
    shufflenet_descriptor other{};
    other.abi = 9'08'07;
    expect_error(model.open(other, cuda_options()), Code::kUnsupported, "found one of version 9.8.7");
    EXPECT_EQ(compiled_devices(other), "");
    // The CPU is as it was.
    Model cpu;
    ASSERT_TRUE(cpu.open(descriptor()).ok());
    ASSERT_TRUE(cpu.load_weights(weights(), "random weights").ok());
    const std::vector<float> input(image_floats(), 0.5F);
    std::vector<float> logits(cpu.classes());
    EXPECT_TRUE(cpu.run(input, 1, logits).ok());
}

TEST_F(Cuda, OutOfMemory) {
    DeviceModel model;
    fake_.memory_bytes = 1000;
    expect_error(model.open(descriptor(), cuda_options()), Code::kOutOfMemory, "Fake GPU 0: cuMemAlloc of ");
    EXPECT_EQ(fake_.bytes_live, 0U);
    // Every allocation of opening and loading may be the one that fails; the model is then without weights, or as it
    // was.
    fake_cuda_reset();
    { opened(); }
    const int taken = fake_.allocations;
    for (int failing = 0; failing < taken; ++failing) {
        fake_cuda_reset();
        fake_.fail_function = "cuMemAlloc_v2";
        fake_.fail_after = failing;
        fake_.fail_result = kResultOutOfMemory;
        DeviceModel m;
        Status status = m.open(descriptor(), cuda_options());
        if (status.ok()) status = m.load_weights(weights(), "random weights");
        expect_error(status, Code::kOutOfMemory, "out of memory");
        EXPECT_NE(m.run({}, 1, std::span<float>()).code(), Code::kOk);
    }
    fake_.fail_function = nullptr;
}

TEST_F(Cuda, ErrorsOfTheDriver) {
    struct Row {
        const char *function;
        Code code;
        const char *text;
    };
    // In opening, loading or running; then the next run, without the error, is good if the model is there.
    const Row rows[] = {
        {"cuDeviceGetCount", Code::kInternal, "cuDeviceGetCount: fake error"},
        {"cuDevicePrimaryCtxRetain", Code::kInternal, "cuDevicePrimaryCtxRetain"},
        {"cuStreamCreate", Code::kInternal, "cuStreamCreate"},
        {"cuMemsetD8Async", Code::kInternal, "cuMemsetD8Async"},
        {"cuMemcpyHtoDAsync_v2", Code::kInternal, "cuMemcpyHtoDAsync"},
        {"cuMemcpyDtoHAsync_v2", Code::kInternal, "cuMemcpyDtoHAsync"},
        {"cuStreamSynchronize", Code::kInternal, "cuStreamSynchronize"},
        {"cuModuleLoadData", Code::kInternal, "cuModuleLoadData"},
        {"cuModuleGetFunction", Code::kInternal, "cuModuleGetFunction"},
        {"cuLaunchKernel", Code::kInternal, "prime_32x32: cuda: stem: cuLaunchKernel: fake error"},
    };
    for (const Row &row : rows) {
        SCOPED_TRACE(row.function);
        fake_cuda_reset();
        fake_.fail_function = row.function;
        fake_.fail_result = kResultIllegalAddress;
        DeviceModel model;
        Status status = model.open(descriptor(), cuda_options());
        if (status.ok()) status = model.load_weights(weights(), "random weights");
        if (status.ok()) status = run(model, 2);
        expect_error(status, row.code, row.text);
        fake_.fail_function = nullptr;
        if (model.device_name().empty()) continue;
        ASSERT_TRUE(model.load_weights(weights(), "random weights").ok());
        EXPECT_TRUE(run(model, 2).ok());
    }
    fake_cuda_reset();
    fake_.fail_function = "cuModuleLoadData";
    fake_.fail_result = 222;  // CUDA_ERROR_UNSUPPORTED_PTX_VERSION
    DeviceModel model;
    ASSERT_TRUE(model.open(descriptor(), cuda_options()).ok());
    expect_error(model.load_weights(weights(), "random weights"), Code::kUnsupported, "a newer device or driver");
    fake_.fail_function = nullptr;
}

TEST_F(Cuda, GraphsThatFail) {
    for (const char *function : {"cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags",
                                 "cuLaunchKernel", "cuGraphLaunch"}) {
        SCOPED_TRACE(function);
        fake_cuda_reset();
        DeviceOptions options = cuda_options();
        options.graph = true;
        DeviceModel model = opened(options);
        fake_.fail_function = function;
        fake_.fail_result = kResultIllegalAddress;
        EXPECT_EQ(run(model, 1).code(), Code::kInternal);
        fake_.fail_function = nullptr;
        EXPECT_TRUE(run(model, 1).ok());
    }
}

/// Extents that kernels check multiply to more than 2^31 long before memory does.
TEST_F(Cuda, LargeBatches) {
    constexpr int kImages = 256;
    fake_.memory_bytes = size_t{80} << 30;
    for (const shufflenet_descriptor *d : kTestModels) {
        SCOPED_TRACE(d->name);
        DeviceOptions options = cuda_options();
        options.max_batch = kImages;
        DeviceModel model;
        ASSERT_TRUE(model.open(*d, options).ok());
        ASSERT_TRUE(load(model, *d).ok());
        const int before = fake_.launches;
        const Status status = model.enqueue(model.own_input(), kImages, model.own_output());
        EXPECT_TRUE(status.ok()) << status.message();
        EXPECT_EQ(fake_.launches - before, launches(model, kImages));
    }
    // Kernels count in 32 bits.
    shufflenet_descriptor large = descriptor();
    shufflenet_device device = large.devices[0];
    shufflenet_program program = *device.program;
    program.arena_floats = 1 << 20;
    device.program = &program;
    large.devices = &device;
    large.devices_count = 1;
    DeviceOptions options = cuda_options();
    options.max_batch = 3000;
    DeviceModel model;
    expect_error(model.open(large, options), Code::kBadInput,
                 "max_batch: activations of 3000 images are 3145728000 floats, expected at most 2147483647");
}

TEST_F(Cuda, BeforeOpenAndBeforeWeights) {
    DeviceModel model;
    EXPECT_EQ(run(model, 1).code(), Code::kBadInput);
    EXPECT_EQ(model.enqueue(1, 1, 1).code(), Code::kBadInput);
    EXPECT_EQ(model.load_weights(weights(), "w").code(), Code::kBadInput);
    EXPECT_EQ(model.classes() + model.max_batch() + launches(model, 1) + int(model.activation_bytes()), 0);
    ASSERT_TRUE(model.open(descriptor(), cuda_options()).ok());
    const std::vector<float> input(image_floats());
    std::vector<float> logits(model.classes());
    expect_error(model.run(input, 1, logits), Code::kBadInput, "before weights were loaded");
    EXPECT_EQ(model.enqueue(1, 1, 1).code(), Code::kBadInput);
    EXPECT_EQ(model.max_batch(), kMaxBatch);
}

}  // namespace
}  // namespace shufflenet
