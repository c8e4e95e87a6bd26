// Every model on every device that it was compiled for: executed on OpenCL, by PoCL where there is no GPU.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <map>
#include <thread>

#include "expected.h"
#include "nonfinite.h"
#include "runtime/src/pack.h"
#include "runtime/src/safetensors.h"
#include "shufflenet/device.h"
#include "test_models.h"

namespace shufflenet {
namespace {

struct Case {
    const shufflenet_descriptor *model;
    const shufflenet_device *device;
};

std::vector<Case> all_cases() {
    std::vector<Case> cases;
    for (const shufflenet_descriptor *model : kTestModels) {
        for (int i = 0; i < model->devices_count; ++i) cases.push_back({model, &model->devices[i]});
    }
    return cases;
}

class Device : public testing::TestWithParam<Case> {
  protected:
    /// OpenCL is everywhere where its tests are run: PoCL is a package. A GPU is where the variable says so.
    void SetUp() override {
        DeviceModel probe;
        const Status status = probe.open(d_, device_options(1));
        const bool optional = device_options(1).device == "cuda" && std::getenv("SHUFFLENET_REQUIRE_DEVICE") == nullptr;
        if (status.code() == Code::kUnsupported && optional) GTEST_SKIP() << status.message();
        ASSERT_TRUE(status.ok()) << status.message();
    }

    static DeviceOptions device_options(int max_batch) {
        DeviceOptions options;
        options.device = GetParam().device->device;
        options.max_batch = max_batch;
        return options;
    }
    DeviceModel opened(const DeviceOptions &options = device_options(kImages)) const {
        DeviceModel model;
        const Status opened = model.open(d_, options);
        EXPECT_TRUE(opened.ok()) << opened.message();
        const Status loaded = model.load_weights(expected_of(d_).safetensors, "random weights");
        EXPECT_TRUE(loaded.ok()) << loaded.message();
        return model;
    }
    Outputs run(DeviceModel &model, int first, int batch) const {
        return outputs_of(model, expected_of(d_).image(first, batch), batch);
    }

    const shufflenet_descriptor &d_ = *GetParam().model;
};

TEST_P(Device, MatchesTheReference) {
    const Expected &expected = expected_of(d_);
    DeviceModel model = opened();
    const std::vector<OutputInfo> infos = model.outputs();
    ASSERT_EQ(infos.size(), graph_of(d_).outputs.size());
    const Outputs found = run(model, 0, kImages);
    for (size_t o = 0; o < infos.size(); ++o) {
        EXPECT_EQ(infos[o].name, graph_of(d_).outputs[o].name);
        for (int i = 0; i < kImages; ++i) {
            const std::span<const float> image = image_of(std::span(found[o]), i, kImages);
            EXPECT_LE(worst_error(image, expected.results[i][o].data), kTolerance) << infos[o].name << ", image " << i;
        }
    }
    EXPECT_EQ(first_output_of(model, expected.input, kImages), found[0]) << "others change the first";
}

TEST_P(Device, LayoutsShowTheSame) {
    DeviceModel model = opened();
    const Outputs nchw = run(model, 0, kImages);
    const Outputs nhwc = outputs_of(model, expected_of(d_).input, kImages, Layout::kNHWC);
    for (size_t o = 0; o < nchw.size(); ++o) {
        const OutputShape shape = model.outputs()[o].shape;
        const size_t pixels = size_t(shape.height) * shape.width;
        for (size_t e = 0; e < nchw[o].size(); ++e) {
            const size_t element = e % shape.elements(), image = e - element;
            const size_t other = image + element % pixels * shape.channels + element / pixels;
            ASSERT_EQ(nchw[o][e], nhwc[o][other]) << "output " << o << ", element " << e;
        }
    }
}

/// A batch larger than the model's memory is computed in pieces, a smaller one with the same kernels.
TEST_P(Device, BatchesDoNotChangeTheResult) {
    DeviceModel model = opened(), small = opened(device_options(2));
    const Outputs found = run(model, 0, kImages);
    EXPECT_EQ(run(small, 0, kImages), found);
    EXPECT_EQ(run(model, 1, 1), image_of(found, 1, kImages));
}

TEST_P(Device, ShowsWhatIsNotFinite) {
    const Size size{d_.height, d_.width};
    const networks::Graph &graph = graph_of(d_);
    const auto layers = reference::fold(graph, kSeed);
    const std::span<const float> image = expected_of(d_).image(0);
    std::map<std::pair<size_t, std::string>, std::vector<reference::Tensor>> made;
    const auto expected = [&](const Spot &spot) -> const auto & {
        auto [entry, fresh] = made.try_emplace({spot.index(size), kind_of(spot.value)});
        if (fresh) entry->second = reference::run(graph, layers, with_spot(image, spot, size));
        return entry->second;
    };
    DeviceModel model = opened();
    expect_spots_show(model, d_, image, expected);
}

TEST_P(Device, MatchesTorchvision) {
    const std::vector<golden::Case> cases = golden_cases(d_);
    if (cases.empty() || d_.classes == 0) GTEST_SKIP() << "no golden vectors of this network at this size";
    DeviceModel model = opened(device_options(1));
    for (const golden::Case &c : cases) {
        SCOPED_TRACE(c.name);
        ASSERT_TRUE(model.load_weights(reference::random_safetensors(c.graph(), c.seed), c.name).ok());
        std::vector<float> logits(c.classes, NAN);
        const OutputRequest request{"logits", Layout::kNCHW, logits};
        ASSERT_TRUE(model.run(reference::random_input(c.input, 1, c.seed), 1, {&request, 1}).ok());
        EXPECT_LE(worst_error(logits, std::vector<double>(c.logits.begin(), c.logits.end())), kTolerance);
    }
}

/// Weights that are embedded lie as the CPU's kernels read them.
TEST_P(Device, EmbeddedWeightsArePackedAgain) {
    DeviceModel model = opened();
    PackedWeights packed;
    Safetensors file;
    ASSERT_TRUE(Safetensors::parse(expected_of(d_).safetensors, "random weights", &file).ok());
    ASSERT_TRUE(pack_weights(file, "random weights", d_.network, *d_.program, &packed).ok());
    shufflenet_descriptor embedded = d_;
    embedded.packed = packed.floats.data();
    DeviceModel other;
    ASSERT_TRUE(other.open(embedded, device_options(kImages)).ok());
    const Status status = other.load_embedded_weights();
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(run(other, 0, kImages), run(model, 0, kImages));
}

/// Models that share weights, each on a thread of its own.
TEST_P(Device, ThreadsGetTheSameResults) {
    DeviceModel model = opened(), other;
    ASSERT_TRUE(model.share(&other).ok());
    const Outputs expected = run(model, 0, kImages);
    std::array<Outputs, 2> found;
    std::thread first([&] { found[0] = run(model, 0, kImages); });
    std::thread second([&] { found[1] = run(other, 0, kImages); });
    first.join();
    second.join();
    EXPECT_EQ(found[0], expected);
    EXPECT_EQ(found[1], expected);
}

/// Captured, replayed, and captured again for another batch.
TEST_P(Device, GraphsGiveTheSameResults) {
    DeviceOptions options = device_options(kImages);
    if (options.device != "cuda") GTEST_SKIP() << options.device << " has no graphs";
    DeviceModel plain = opened();
    options.graph = true;
    DeviceModel graph = opened(options);
    for (const int batch : {kImages, kImages, 1}) EXPECT_EQ(run(graph, 0, batch), run(plain, 0, batch));
}

using Calls = std::array<int, 2>;
Calls stem_calls;
shufflenet_kernel_fn counted_stem;
template <int variant>
int count_stem(const void *context, halide_buffer_t *in, halide_buffer_t *table, halide_buffer_t *weights,
               halide_buffer_t *elements, halide_buffer_t *out, halide_buffer_t *tail) {
    ++stem_calls[variant];
    return counted_stem(context, in, table, weights, elements, out, tail);
}

/// A run gets the kernels of the greatest number of images that it reaches, each of its pieces for itself.
TEST_P(Device, KernelsAreThoseOfTheBatch) {
    shufflenet_device device = *GetParam().device;
    const std::span kernels(device.kernels[0], device.program->kernels_count);
    std::array<std::vector<shufflenet_kernel>, 2> tables;
    for (auto &table : tables) table.assign(kernels.begin(), kernels.end());
    const int stem = device.program->calls[0].kernel;
    counted_stem = kernels[stem].run;
    tables[0][stem].run = count_stem<0>;
    tables[1][stem].run = count_stem<1>;
    const shufflenet_kernel *const variants[] = {tables[0].data(), tables[1].data()};
    const int from_batch[] = {1, 3};
    device.variants_count = 2;
    device.kernels = variants;
    device.from_batch = from_batch;
    shufflenet_descriptor counting = d_;
    counting.devices = &device;
    counting.devices_count = 1;
    DeviceModel model;
    ASSERT_TRUE(model.open(counting, device_options(3)).ok());
    stem_calls = {};
    ASSERT_TRUE(model.load_weights(expected_of(d_).safetensors, "random weights").ok());
    EXPECT_GT(stem_calls[0], 0) << "kernels are made ready with the weights";
    EXPECT_GT(stem_calls[1], 0) << "kernels are made ready with the weights";
    const std::vector<std::pair<int, Calls>> cases = {{1, {1, 0}}, {2, {1, 0}}, {3, {0, 1}}, {5, {1, 1}}};
    for (const auto &[batch, expected] : cases) {
        stem_calls = {};
        run(model, 0, batch);
        EXPECT_EQ(stem_calls, expected) << "batch " << batch;
    }
}

/// tests/by_batch_32x32.json
TEST(TunedByBatch, EachBatchHasWhatItsFileSays) {
    const auto *const found = std::ranges::find_if(
        kTestModels, [](const shufflenet_descriptor *d) { return d->name == std::string("by_batch_32x32"); });
    ASSERT_NE(found, std::end(kTestModels));
    const shufflenet_descriptor &d = **found;
    ASSERT_GT(d.devices_count, 0);
    for (const shufflenet_device &device : std::span(d.devices, d.devices_count)) {
        SCOPED_TRACE(device.device);
        ASSERT_EQ(device.variants_count, 3);
        EXPECT_EQ(std::vector(device.from_batch, device.from_batch + 3), (std::vector{1, 2, 3}));
        const auto kernel = [&](int variant, std::string_view id) {
            const std::span calls(device.program->calls, device.program->calls_count);
            const auto call = std::ranges::find_if(calls, [&](const shufflenet_call &c) { return c.id == id; });
            return call == calls.end() ? nullptr : device.kernels[variant][call->kernel].run;
        };
        EXPECT_NE(kernel(0, "conv5_pool"), nullptr);
        EXPECT_NE(kernel(0, "conv5_pool"), kernel(1, "conv5_pool"));
        EXPECT_EQ(kernel(1, "conv5_pool"), kernel(2, "conv5_pool"));
        EXPECT_NE(kernel(0, "stage3_unit1_branch2_pw1"), nullptr);
        EXPECT_EQ(kernel(0, "stage3_unit1_branch2_pw1"), kernel(1, "stage3_unit1_branch2_pw1"));
        EXPECT_NE(kernel(1, "stage3_unit1_branch2_pw1"), kernel(2, "stage3_unit1_branch2_pw1"));
        EXPECT_EQ(kernel(0, "fc"), kernel(2, "fc"));
    }
    std::string names;
    for (int i = 0; i < d.devices_count; ++i) names += (i > 0 ? "," : "") + std::string(d.devices[i].device);
    EXPECT_EQ(compiled_devices(d), names);
}

/// Multiply-adds are the network's, whatever the kernels.
TEST_P(Device, KernelsCostWhatTheNetworkCosts) {
    DeviceModel model = opened();
    for (const int batch : {1, kImages}) {
        int64_t multiply_adds = 0;
        for (const KernelCost &kernel : model.kernels(batch)) {
            multiply_adds += kernel.multiply_adds;
            EXPECT_GT(kernel.bytes, 0) << kernel.id;
        }
        EXPECT_EQ(multiply_adds, batch * total_cost(graph_of(d_)).flops);
    }
}

INSTANTIATE_TEST_SUITE_P(Models, Device, testing::ValuesIn(all_cases()), [](const auto &info) {
    return std::string(info.param.model->name) + "_on_" + info.param.device->device;
});
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Device);

}  // namespace
}  // namespace shufflenet
