// Every model, on every instruction set that the CPU has, against the naive double-precision network.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>

#include "isa.h"
#include "reference/random_weights.h"
#include "reference/reference.h"
#include "shufflenet/model.h"
#include "test_models.h"

namespace shufflenet {
namespace {

constexpr uint64_t kSeed = 7;
constexpr int kImages = 3;

// Relative to the output's range. Single precision has 6e-8; sums of up to 2048 products, through up to 52 layers,
// lose about two decimal digits of it.
constexpr double kTolerance = 1e-5;

struct Case {
    const shufflenet_descriptor *model;
    const char *isa;
};

std::vector<Case> all_cases() {
    std::vector<Case> cases;
    for (const shufflenet_descriptor *model : kTestModels) {
        for (int i = 0; i < model->kernels_count; ++i) cases.push_back({model, model->kernels[i].isa});
    }
    return cases;
}

/// Weights, input and expected outputs of one model; made once, the instruction sets share it.
struct Expected {
    std::vector<std::byte> safetensors;
    std::vector<float> input;
    std::vector<reference::Result> results;
};

const Expected &expected_of(const shufflenet_descriptor &model) {
    static std::map<const shufflenet_descriptor *, Expected> cache;
    auto [entry, fresh] = cache.try_emplace(&model);
    Expected &e = entry->second;
    if (!fresh) return e;
    const Network &network = *find_network(model.network);
    const Size size{model.height, model.width};
    e.safetensors = reference::random_safetensors(network, model.classes, kSeed);
    e.input = reference::random_input(size, kImages, kSeed);
    const auto layers = reference::fold(network, model.classes, kSeed);
    const size_t image = size_t{3} * size.pixels();
    for (int i = 0; i < kImages; ++i) {
        e.results.push_back(reference::run(network, size, model.classes, layers, std::span(e.input).subspan(i * image, image)));
    }
    return e;
}

double worst_error(std::span<const float> found, std::span<const double> expected) {
    EXPECT_EQ(found.size(), expected.size());
    const auto [low, high] = std::ranges::minmax(expected);
    double worst = 0;
    for (size_t i = 0; i < found.size(); ++i) {
        if (!std::isfinite(found[i])) return INFINITY;
        worst = std::max(worst, std::abs(found[i] - expected[i]));
    }
    // A network of one channel can have a constant output: then the scale is its value.
    const double range = high > low ? high - low : std::max(1e-3, std::abs(high));
    return worst / range;
}

const std::vector<double> &expected_feature(const reference::Result &result, Feature feature) {
    return feature == Feature::kConv5 ? result.conv5.data : result.stages[static_cast<int>(feature)].data;
}

class EndToEnd : public testing::TestWithParam<Case> {
  protected:
    void SetUp() override {
        if (!cpu_has(GetParam().isa)) GTEST_SKIP() << "this CPU does not have " << GetParam().isa;
        setenv(kIsaVariable, GetParam().isa, 1);
    }
    void TearDown() override { unsetenv(kIsaVariable); }

    Model opened(int threads) {
        const shufflenet_descriptor &d = *GetParam().model;
        Model model;
        const Status opened = model.open(d, threads);
        EXPECT_TRUE(opened.ok()) << opened.message();
        const Status loaded = model.load_weights(expected_of(d).safetensors, "random weights");
        EXPECT_TRUE(loaded.ok()) << loaded.message();
        EXPECT_STREQ(model.isa(), GetParam().isa);
        return model;
    }

    std::vector<float> run(Model &model, int first, int batch, std::span<const FeatureRequest> features = {}) {
        const shufflenet_descriptor &d = *GetParam().model;
        const size_t image = size_t{3} * d.height * d.width;
        std::vector<float> logits(size_t(batch) * d.classes, NAN);
        const Status status = model.run(std::span(expected_of(d).input).subspan(first * image, batch * image), batch,
                                        logits, features);
        EXPECT_TRUE(status.ok()) << status.message();
        return logits;
    }
};

TEST_P(EndToEnd, LogitsMatchTheReference) {
    const Expected &expected = expected_of(*GetParam().model);
    Model model = opened(1);
    const std::vector<float> logits = run(model, 0, kImages);
    const size_t classes = GetParam().model->classes;
    for (int i = 0; i < kImages; ++i) {
        EXPECT_LE(worst_error(std::span(logits).subspan(i * classes, classes), expected.results[i].logits), kTolerance)
            << "image " << i;
    }
}

TEST_P(EndToEnd, FeaturesMatchTheReference) {
    const Expected &expected = expected_of(*GetParam().model);
    Model model = opened(2);
    for (int f = 0; f < kFeatures; ++f) {
        const auto feature = static_cast<Feature>(f);
        const FeatureShape shape = model.feature_shape(feature);
        std::vector<float> nchw(kImages * shape.elements(), NAN), nhwc = nchw;
        const FeatureRequest requests[] = {{feature, Layout::kNCHW, nchw}, {feature, Layout::kNHWC, nhwc}};
        run(model, 0, kImages, requests);
        for (int i = 0; i < kImages; ++i) {
            const std::span<const float> image = std::span(nchw).subspan(i * shape.elements(), shape.elements());
            EXPECT_LE(worst_error(image, expected_feature(expected.results[i], feature)), kTolerance)
                << "feature " << f << ", image " << i;
        }
        FeatureView view;
        ASSERT_TRUE(model.view(feature, &view).ok());
        for (int c = 0; c < shape.channels; ++c) {
            for (int p = 0; p < shape.height * shape.width; ++p) {
                const size_t last = (kImages - 1) * shape.elements();
                const float value = nchw[last + size_t(c) * shape.height * shape.width + p];
                ASSERT_EQ(nhwc[last + size_t(p) * shape.channels + c], value) << "channel " << c << ", pixel " << p;
                ASSERT_EQ(view.data[view.channel_offset[c] + p * view.pixel_stride], value) << "channel " << c;
            }
        }
    }
}

TEST_P(EndToEnd, BitIdenticalOverThreadsBatchesAndRuns) {
    Model one = opened(1);
    std::vector<float> expected;
    for (int i = 0; i < kImages; ++i) {
        const std::vector<float> logits = run(one, i, 1);
        expected.insert(expected.end(), logits.begin(), logits.end());
    }
    for (const int threads : {1, 2, 3}) {
        Model model = opened(threads);
        for (int repeat = 0; repeat < 2; ++repeat) {
            EXPECT_EQ(run(model, 0, kImages), expected) << threads << " threads, repeat " << repeat;
            const std::vector<float> first = run(model, 0, 1);
            EXPECT_TRUE(std::equal(first.begin(), first.end(), expected.begin())) << threads << " threads, batch 1";
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Models, EndToEnd, testing::ValuesIn(all_cases()), [](const auto &info) {
    return std::string(info.param.model->name) + "_on_" + info.param.isa;
});

}  // namespace
}  // namespace shufflenet
