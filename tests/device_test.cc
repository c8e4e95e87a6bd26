// Every model on every device that it was compiled for: executed on OpenCL, by PoCL where there is no GPU.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "expected.h"
#include "networks/devices.h"
#include "nonfinite.h"
#include "shufflenet/device.h"
#include "test_models.h"

namespace shufflenet {
namespace {

using Fusion = DeviceOptions::Fusion;

struct Case {
    const shufflenet_descriptor *model;
    const char *device;
};

std::vector<Case> all_cases() {
    std::vector<Case> cases;
    for (const shufflenet_descriptor *model : kTestModels) {
        for (int i = 0; i < model->device_kernels_count; ++i) {
            const shufflenet_device_kernels &row = model->device_kernels[i];
            if (row.from_batch == 1) cases.push_back({model, row.device});
        }
    }
    return cases;
}

class Device : public testing::TestWithParam<Case> {
  protected:
    /// OpenCL is everywhere where its tests are run: PoCL is a package. A GPU is where the variable says so.
    void SetUp() override {
        DeviceModel probe;
        DeviceOptions options;
        options.device = GetParam().device;
        options.max_batch = 1;
        const Status status = probe.open(descriptor(), options);
        const bool optional = options.device == "cuda" && std::getenv("SHUFFLENET_REQUIRE_DEVICE") == nullptr;
        if (status.code() == Code::kUnsupported && optional) GTEST_SKIP() << status.message();
        ASSERT_TRUE(status.ok()) << status.message();
    }

    static const shufflenet_descriptor &descriptor() { return *GetParam().model; }
    static DeviceModel opened(Fusion fusion, int max_batch = kImages, bool graph = false) {
        DeviceModel model;
        DeviceOptions options;
        options.device = GetParam().device;
        options.max_batch = max_batch;
        options.fusion = fusion;
        options.graph = graph;
        const Status opened = model.open(descriptor(), options);
        EXPECT_TRUE(opened.ok()) << opened.message();
        const Status loaded = model.load_weights(expected_of(descriptor()).safetensors, "random weights");
        EXPECT_TRUE(loaded.ok()) << loaded.message();
        return model;
    }
    static std::vector<float> run(DeviceModel &model, int first, int batch,
                                  std::span<const FeatureRequest> features = {}) {
        const size_t image = size_t{3} * descriptor().height * descriptor().width;
        std::vector<float> logits(size_t(batch) * descriptor().classes, NAN);
        const std::span input = std::span(expected_of(descriptor()).input).subspan(first * image, batch * image);
        const Status status = model.run(input, batch, logits, features);
        EXPECT_TRUE(status.ok()) << status.message();
        return logits;
    }
};

/// However units are cut into kernels, all at once and one by one, logits and features.
TEST_P(Device, MatchesTheReference) {
    const Expected &expected = expected_of(descriptor());
    for (const Fusion fusion : {Fusion::kAlways, Fusion::kNever}) {
        SCOPED_TRACE(fusion == Fusion::kAlways ? "one kernel a unit" : "two kernels a unit");
        DeviceModel model = opened(fusion);
        std::array<std::vector<float>, kFeatures> nchw, nhwc;
        std::vector<FeatureRequest> requests;
        for (int f = 0; f < kFeatures; ++f) {
            const auto feature = static_cast<Feature>(f);
            nchw[f] = nhwc[f] = std::vector<float>(kImages * model.feature_shape(feature).elements(), NAN);
            requests.push_back({feature, Layout::kNCHW, nchw[f]});
            requests.push_back({feature, Layout::kNHWC, nhwc[f]});
        }
        const std::vector<float> logits = run(model, 0, kImages, requests);
        const size_t classes = descriptor().classes;
        for (int i = 0; i < kImages; ++i) {
            const std::span<const float> found = std::span(logits).subspan(i * classes, classes);
            EXPECT_LE(worst_error(found, expected.results[i].logits), kTolerance) << "image " << i;
            for (int f = 0; f < kFeatures; ++f) {
                const FeatureShape shape = model.feature_shape(static_cast<Feature>(f));
                const std::span image = std::span(nchw[f]).subspan(i * shape.elements(), shape.elements());
                EXPECT_LE(worst_error(image, expected_feature(expected.results[i], static_cast<Feature>(f))),
                          kTolerance)
                    << "feature " << f << ", image " << i;
                const int pixels = shape.height * shape.width;
                for (size_t e = 0; e < shape.elements(); ++e) {
                    const size_t other = e % pixels * shape.channels + e / pixels;
                    ASSERT_EQ(image[e], nhwc[f][i * shape.elements() + other]) << "feature " << f << ", element " << e;
                }
            }
        }
        // A batch larger than the model's memory is computed in pieces, a smaller one with the same kernels.
        DeviceModel small = opened(fusion, 2);
        EXPECT_EQ(run(small, 0, kImages), logits);
        EXPECT_EQ(run(model, 1, 1), std::vector<float>(logits.begin() + classes, logits.begin() + 2 * classes));
    }
}

TEST_P(Device, ShowsWhatIsNotFinite) {
    const shufflenet_descriptor &d = descriptor();
    const AnyNetwork network = *find_any_network(d.network);
    const Size size{d.height, d.width};
    const auto layers = reference::fold(network, d.classes, kSeed);
    const std::vector<float> image = reference::random_input(size, 1, kSeed);
    std::map<std::pair<size_t, std::string>, std::vector<std::vector<double>>> made;
    const auto expected = [&](const Spot &spot) -> const auto & {
        auto [entry, fresh] = made.try_emplace({spot.index(size), kind_of(spot.value)});
        if (fresh) {
            entry->second = reference_outputs(network, size, d.classes, layers, with_spot(image, spot, size));
        }
        return entry->second;
    };
    for (const Fusion fusion : {Fusion::kAlways, Fusion::kNever}) {
        SCOPED_TRACE(fusion == Fusion::kAlways ? "one kernel a unit" : "two kernels a unit");
        DeviceModel model = opened(fusion);
        expect_spots_show(model, d, image, expected);
    }
}

TEST_P(Device, MatchesTorchvision) {
    if (!std::filesystem::exists(SHUFFLENET_SOURCE_DIR "/tests/golden/golden.json")) {
        GTEST_SKIP() << "the golden vectors are not on this machine";
    }
    const std::vector<golden::Case> cases = golden_cases(descriptor());
    if (cases.empty()) GTEST_SKIP() << "no golden vectors of this network at this size";
    DeviceModel model = opened(Fusion::kAuto, 1);
    for (const golden::Case &c : cases) {
        SCOPED_TRACE(c.name);
        ASSERT_TRUE(model.load_weights(reference::random_safetensors(*c.network, c.classes, c.seed), c.name).ok());
        std::vector<float> logits(c.classes, NAN);
        ASSERT_TRUE(model.run(reference::random_input(c.input, 1, c.seed), 1, logits).ok());
        EXPECT_LE(worst_error(logits, std::vector<double>(c.logits.begin(), c.logits.end())), kTolerance);
    }
}

/// Models that share weights, each on a thread of its own.
TEST_P(Device, ThreadsGetTheSameResults) {
    DeviceModel model = opened(Fusion::kAuto), other;
    ASSERT_TRUE(model.share(&other).ok());
    const std::vector<float> expected = run(model, 0, kImages);
    std::array<std::vector<float>, 2> found;
    std::thread first([&] { found[0] = run(model, 0, kImages); });
    std::thread second([&] { found[1] = run(other, 0, kImages); });
    first.join();
    second.join();
    EXPECT_EQ(found[0], expected);
    EXPECT_EQ(found[1], expected);
}

/// Captured, replayed, and captured again for another batch.
TEST_P(Device, GraphsGiveTheSameResults) {
    if (GetParam().device != std::string("cuda")) GTEST_SKIP() << GetParam().device << " has no graphs";
    DeviceModel plain = opened(Fusion::kAuto), graph = opened(Fusion::kAuto, kImages, true);
    for (const int batch : {kImages, kImages, 1}) EXPECT_EQ(run(graph, 0, batch), run(plain, 0, batch));
}

using Calls = std::array<int, 2>;
Calls stem_calls;
shufflenet_step_fn counted_stem;
template <int row>
int count_stem(const void *context, halide_buffer_t *in, halide_buffer_t *weights, halide_buffer_t *out) {
    ++stem_calls[row];
    return counted_stem(context, in, weights, out);
}

/// A run gets the kernels of the greatest number of images that it reaches, each of its pieces for itself.
TEST_P(Device, KernelsAreThoseOfTheBatch) {
    const shufflenet_descriptor &d = descriptor();
    std::vector<shufflenet_device_kernels> rows;
    for (int i = 0; i < d.device_kernels_count && rows.empty(); ++i) {
        if (d.device_kernels[i].device == std::string(GetParam().device)) rows.assign(2, d.device_kernels[i]);
    }
    counted_stem = rows[0].stem;
    rows[0].stem = count_stem<0>;
    rows[1].stem = count_stem<1>;
    rows[1].from_batch = 3;
    shufflenet_descriptor counting = d;
    counting.device_kernels = rows.data();
    counting.device_kernels_count = 2;
    DeviceModel model;
    DeviceOptions options;
    options.device = GetParam().device;
    options.max_batch = 3;
    ASSERT_TRUE(model.open(counting, options).ok());
    stem_calls = {};
    ASSERT_TRUE(model.load_weights(expected_of(d).safetensors, "random weights").ok());
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
    const std::span<const shufflenet_device_kernels> rows((*found)->device_kernels, (*found)->device_kernels_count);
    ASSERT_EQ(rows.size() % 3, 0U);
    ASSERT_FALSE(rows.empty());
    for (size_t device = 0; device < rows.size(); device += 3) {
        const auto &one = rows[device], &two = rows[device + 1], &three = rows[device + 2];
        SCOPED_TRACE(one.device);
        EXPECT_EQ(std::string(one.device) + one.device, std::string(two.device) + three.device);
        EXPECT_EQ((std::array{one.from_batch, two.from_batch, three.from_batch}), (std::array{1, 2, 3}));
        EXPECT_NE(one.stem, two.stem);
        EXPECT_NE(two.stem, three.stem);
        EXPECT_NE(one.stem, three.stem);
        EXPECT_NE(one.basic[0], two.basic[0]);
        EXPECT_EQ(two.basic[0], three.basic[0]);
        EXPECT_NE(one.conv5_pool, two.conv5_pool);
        EXPECT_EQ(two.conv5_pool, three.conv5_pool);
        EXPECT_EQ(one.basic_expand[0], two.basic_expand[0]);
        EXPECT_NE(two.basic_expand[0], three.basic_expand[0]);
        for (const auto *row : {&two, &three}) {
            EXPECT_EQ(one.basic_project[0], row->basic_project[0]);
            EXPECT_EQ(one.down_branch2[0], row->down_branch2[0]);
            EXPECT_EQ(one.conv5, row->conv5);
            EXPECT_EQ(one.fc, row->fc);
        }
    }
    EXPECT_EQ(compiled_devices(**found).find(','), rows.size() == 3 ? std::string::npos : 6U);
}

INSTANTIATE_TEST_SUITE_P(Models, Device, testing::ValuesIn(all_cases()), [](const auto &info) {
    return std::string(info.param.model->name) + "_on_" + info.param.device;
});
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Device);

/// The table of docs/gpu.md: | network | unit | rows, 32 KiB | rows, 48 KiB | kernels at batch 1 | 8 | 64 | 256 |
TEST(DeviceModelOfCosts, IsAsDocumented) {
    std::ifstream file(SHUFFLENET_SOURCE_DIR "/docs/gpu.md");
    if (!file) GTEST_SKIP() << "the documentation is not on this machine";
    constexpr int kMultiprocessors = 132;
    int rows = 0;
    for (std::string line; std::getline(file, line);) {
        if (!line.starts_with("| x")) continue;
        SCOPED_TRACE(line);
        std::ranges::replace(line, '|', ' ');
        std::istringstream cells(line);
        std::string network, stage, unit;
        int small = 0, large = 0;
        ASSERT_TRUE(cells >> network >> stage >> unit >> small >> large);
        const Network *n = find_network("shufflenet_v2_" + network);
        ASSERT_NE(n, nullptr);
        const UnitShape shape = unit_shape(stage_shape(*n, {224, 224}, stage.back() - '0'), unit == "downsampling");
        EXPECT_EQ(fused_rows(shape, find_device("opencl")->shared_bytes), small);
        const int shared_bytes = find_device("cuda")->shared_bytes;
        EXPECT_EQ(fused_rows(shape, shared_bytes), large);
        for (const int batch : {1, 8, 64, 256}) {
            int kernels = 0;
            ASSERT_TRUE(cells >> kernels);
            EXPECT_EQ(fused_pays(shape, shared_bytes, batch, kMultiprocessors) ? 1 : 2, kernels) << "batch " << batch;
        }
        ++rows;
    }
    EXPECT_EQ(rows, 4 * kStages * 2);
}

}  // namespace
}  // namespace shufflenet
