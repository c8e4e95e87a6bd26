// Every model, on every instruction set that the CPU has, against the naive double-precision network, torchvision's
// golden vectors and the same network with the reference schedule.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>

#include "emulated.h"
#include "expected.h"
#include "model_cases.h"
#include "shufflenet/model.h"

namespace shufflenet {
namespace {

constexpr const char *kTooLong = "takes too long under an emulator; one test runs it once";

class EndToEnd : public testing::TestWithParam<Case> {
  protected:
    void SetUp() override {
        if (!cpu_has(GetParam().isa)) GTEST_SKIP() << "this CPU does not have " << GetParam().isa;
        setenv(kIsaVariable, GetParam().isa, 1);
    }
    void TearDown() override { unsetenv(kIsaVariable); }

    static Model opened(int threads, const shufflenet_descriptor &d = *GetParam().model) {
        Model model;
        const Status opened = model.open(d, threads);
        EXPECT_TRUE(opened.ok()) << opened.message();
        const Status loaded = model.load_weights(expected_of(d).safetensors, "random weights");
        EXPECT_TRUE(loaded.ok()) << loaded.message();
        EXPECT_STREQ(model.isa(), GetParam().isa);
        return model;
    }

    static std::vector<float> run(Model &model, int first, int batch, std::span<const FeatureRequest> features = {}) {
        const shufflenet_descriptor &d = *GetParam().model;
        const size_t image = size_t{3} * d.height * d.width;
        std::vector<float> logits(size_t(batch) * d.classes, NAN);
        const Status status =
            model.run(std::span(expected_of(d).input).subspan(first * image, batch * image), batch, logits, features);
        EXPECT_TRUE(status.ok()) << status.message();
        return logits;
    }
};

TEST_P(EndToEnd, LogitsMatchTheReference) {
    if (runs_once(*GetParam().model) && !golden_cases(*GetParam().model).empty()) GTEST_SKIP() << kTooLong;
    const Expected &expected = expected_of(*GetParam().model);
    Model model = opened(1);
    const auto images = static_cast<int>(expected.results.size());
    const std::vector<float> logits = run(model, 0, images);
    const size_t classes = GetParam().model->classes;
    for (int i = 0; i < images; ++i) {
        EXPECT_LE(worst_error(std::span(logits).subspan(i * classes, classes), expected.results[i].logits), kTolerance)
            << "image " << i;
    }
}

TEST_P(EndToEnd, FeaturesMatchTheReference) {
    if (runs_once(*GetParam().model)) GTEST_SKIP() << kTooLong;
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

TEST_P(EndToEnd, LogitsMatchTorchvisions) {
    const std::vector<golden::Case> cases = golden_cases(*GetParam().model);
    if (cases.empty()) GTEST_SKIP() << "no golden vectors of this network at this size";
    for (const golden::Case &c : cases) {
        SCOPED_TRACE(c.name);
        Model model = opened(2);
        ASSERT_TRUE(model.load_weights(reference::random_safetensors(*c.network, c.classes, c.seed), c.name).ok());
        std::vector<float> logits(c.classes, NAN);
        ASSERT_TRUE(model.run(reference::random_input(c.input, 1, c.seed), 1, logits).ok());
        EXPECT_LE(worst_error(logits, std::vector<double>(c.logits.begin(), c.logits.end())), kTolerance);
    }
}

TEST_P(EndToEnd, ScheduleDoesNotChangeTheResult) {
    if (runs_once(*GetParam().model)) GTEST_SKIP() << kTooLong;
    const shufflenet_descriptor &d = *GetParam().model;
    const std::string reference_name = std::string(d.name) + "_reference";
    const auto *const reference =
        std::ranges::find_if(kTestModels, [&](const auto *m) { return m->name == reference_name; });
    if (reference == std::end(kTestModels)) GTEST_SKIP() << "not built with the reference schedule";
    const std::span kernels((*reference)->kernels, (*reference)->kernels_count);
    const bool built = std::ranges::any_of(kernels, [](const auto &k) { return k.isa == std::string(GetParam().isa); });
    if (!built) GTEST_SKIP() << "not built with the reference schedule for " << GetParam().isa;
    Model tuned = opened(2), plain = opened(1, **reference);
    const std::vector<float> expected = run(plain, 0, kImages);
    EXPECT_LE(worst_error(run(tuned, 0, kImages), std::vector<double>(expected.begin(), expected.end())), kTolerance);
}

/// What a run gives: logits, then every feature.
using Outputs = std::array<std::vector<float>, 1 + kFeatures>;

TEST_P(EndToEnd, BitIdenticalOverThreadsBatchesAndRuns) {
    if (runs_once(*GetParam().model)) GTEST_SKIP() << kTooLong;
    const auto outputs = [](Model &model, int first, int batch) {
        Outputs all;
        std::vector<FeatureRequest> requests;
        for (int f = 0; f < kFeatures; ++f) {
            const auto feature = static_cast<Feature>(f);
            all[1 + f].resize(batch * model.feature_shape(feature).elements(), NAN);
            requests.push_back({feature, Layout::kNCHW, all[1 + f]});
        }
        all[0] = run(model, first, batch, requests);
        EXPECT_EQ(run(model, first, batch), all[0]) << "features change the logits";
        return all;
    };
    Model one = opened(1);
    std::array<Outputs, kImages> alone;
    Outputs together;
    for (int i = 0; i < kImages; ++i) {
        alone[i] = outputs(one, i, 1);
        for (size_t k = 0; k < together.size(); ++k) {
            together[k].insert(together[k].end(), alone[i][k].begin(), alone[i][k].end());
        }
    }
    for (const int threads : {1, 2, 3}) {
        Model model = opened(threads);
        for (int repeat = 0; repeat < 2; ++repeat) {
            EXPECT_EQ(outputs(model, 0, kImages), together) << threads << " threads, repeat " << repeat;
            EXPECT_EQ(outputs(model, 1, 1), alone[1]) << threads << " threads, batch 1, repeat " << repeat;
        }
    }
}

// One library chooses by the machine that it runs on, and answers must not depend on that.
TEST_P(EndToEnd, BothKindsOfAvx512GiveTheSameBits) {
    const shufflenet_descriptor &d = *GetParam().model;
    const std::string other = std::string(GetParam().isa) + "x2";
    const std::span kernels(d.kernels, d.kernels_count);
    if (std::ranges::none_of(kernels, [&](const auto &k) { return k.isa == other; })) GTEST_SKIP() << "of one kind";
    const auto outputs = [&](const char *isa) {
        const ForcedIsa forced(isa);
        Model model;
        EXPECT_TRUE(model.open(d, 2).ok());
        EXPECT_TRUE(model.load_weights(expected_of(d).safetensors, "random weights").ok());
        EXPECT_STREQ(model.isa(), isa);
        const size_t values = model.feature_shape(Feature::kStage2).elements();
        std::vector<float> stage2(kImages * values, NAN);
        std::vector<float> all =
            run(model, 0, kImages, std::array{FeatureRequest{Feature::kStage2, Layout::kNCHW, stage2}});
        all.insert(all.end(), stage2.begin(), stage2.end());
        return all;
    };
    EXPECT_EQ(outputs(GetParam().isa), outputs(other.c_str()));
}

INSTANTIATE_TEST_SUITE_P(Models, EndToEnd, testing::ValuesIn(all_cases()),
                         [](const auto &info) { return case_name(info.param); });

}  // namespace
}  // namespace shufflenet
