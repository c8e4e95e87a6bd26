// Every model, on every instruction set that the CPU has, against its own graph computed naively in double precision,
// torchvision's golden vectors and the same network with the reference schedule.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

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
    }

    static Model opened(int threads, const shufflenet_descriptor &d, const char *isa) {
        const ForcedIsa forced(isa);
        Model model;
        const Status opened = model.open(d, threads);
        EXPECT_TRUE(opened.ok()) << opened.message();
        const Status loaded = model.load_weights(expected_of(d).safetensors, "random weights");
        EXPECT_TRUE(loaded.ok()) << loaded.message();
        EXPECT_STREQ(model.isa(), isa);
        return model;
    }
    Model opened(int threads) const { return opened(threads, d_, GetParam().isa); }

    const shufflenet_descriptor &d_ = *GetParam().model;
};

TEST_P(EndToEnd, OutputsMatchTheReference) {
    if (runs_once(d_) && !golden_cases(d_).empty()) GTEST_SKIP() << kTooLong;
    const Expected &expected = expected_of(d_);
    Model model = opened(1);
    const std::vector<OutputInfo> infos = model.outputs();
    ASSERT_EQ(infos.size(), graph_of(d_).outputs.size());
    const Outputs found = outputs_of(model, expected.input, expected.images());
    for (size_t o = 0; o < infos.size(); ++o) {
        EXPECT_EQ(infos[o].name, graph_of(d_).outputs[o].name);
        for (int i = 0; i < expected.images(); ++i) {
            const std::span<const float> image = image_of(std::span(found[o]), i, expected.images());
            EXPECT_LE(worst_error(image, expected.results[i][o].data), tolerance_of(d_))
                << infos[o].name << ", image " << i;
        }
    }
}

TEST_P(EndToEnd, LayoutsAndViewsShowTheSame) {
    if (runs_once(d_)) GTEST_SKIP() << kTooLong;
    const Expected &expected = expected_of(d_);
    Model model = opened(2);
    const Outputs nchw = outputs_of(model, expected.input, kImages);
    const Outputs nhwc = outputs_of(model, expected.input, kImages, Layout::kNHWC);
    for (size_t o = 0; o < nchw.size(); ++o) {
        const OutputInfo info = model.outputs()[o];
        SCOPED_TRACE(info.name);
        const auto channels = image_of(std::span(nchw[o]), kImages - 1, kImages);
        const auto pixels = image_of(std::span(nhwc[o]), kImages - 1, kImages);
        OutputView view{};
        // Logits are in the caller's memory alone.
        const bool in_arena = d_.program->outputs[o].offsets != nullptr;
        ASSERT_EQ(model.view(info.name, &view).ok(), in_arena);
        const int count = info.shape.height * info.shape.width;
        for (int c = 0; c < info.shape.channels; ++c) {
            for (int p = 0; p < count; ++p) {
                const float value = channels[size_t(c) * count + p];
                ASSERT_EQ(pixels[size_t(p) * info.shape.channels + c], value) << "channel " << c << ", pixel " << p;
                if (!in_arena) continue;
                ASSERT_EQ(view.data[view.channel_offset[c] + p * view.pixel_stride], value) << "channel " << c;
            }
        }
    }
}

TEST_P(EndToEnd, LogitsMatchTorchvisions) {
    const std::vector<golden::Case> cases = golden_cases(d_);
    if (cases.empty() || d_.classes == 0) GTEST_SKIP() << "no golden vectors of this network at this size";
    for (const golden::Case &c : cases) {
        SCOPED_TRACE(c.name);
        Model model = opened(2);
        ASSERT_TRUE(model.load_weights(reference::random_safetensors(c.graph(), c.seed), c.name).ok());
        std::vector<float> logits(c.classes, NAN);
        const OutputRequest request{"logits", Layout::kNCHW, logits};
        ASSERT_TRUE(model.run(reference::random_input(c.input, 1, c.seed), 1, {&request, 1}).ok());
        EXPECT_LE(worst_error(logits, std::vector<double>(c.logits.begin(), c.logits.end())), tolerance_of(d_));
    }
}

TEST_P(EndToEnd, ScheduleDoesNotChangeTheResult) {
    if (runs_once(d_)) GTEST_SKIP() << kTooLong;
    const std::string reference_name = std::string(d_.name) + "_reference";
    const auto *const reference =
        std::ranges::find_if(kTestModels, [&](const auto *m) { return m->name == reference_name; });
    if (reference == std::end(kTestModels)) GTEST_SKIP() << "not built with the reference schedule";
    const std::span kernels((*reference)->kernels, (*reference)->kernels_count);
    const bool built = std::ranges::any_of(kernels, [](const auto &k) { return k.isa == std::string(GetParam().isa); });
    if (!built) GTEST_SKIP() << "not built with the reference schedule for " << GetParam().isa;
    Model tuned = opened(2), plain = opened(1, **reference, GetParam().isa);
    const std::span<const float> input = expected_of(d_).input;
    const Outputs found = outputs_of(tuned, input, kImages), expected = outputs_of(plain, input, kImages);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t o = 0; o < found.size(); ++o) {
        EXPECT_LE(worst_error(found[o], std::vector<double>(expected[o].begin(), expected[o].end())), tolerance_of(d_))
            << o;
    }
}

TEST_P(EndToEnd, BitIdenticalOverThreadsBatchesAndRuns) {
    if (runs_once(d_)) GTEST_SKIP() << kTooLong;
    const Expected &expected = expected_of(d_);
    const auto outputs = [&](Model &model, int first, int batch) {
        Outputs all = outputs_of(model, expected.image(first, batch), batch);
        EXPECT_EQ(first_output_of(model, expected.image(first, batch), batch), all[0]) << "others change the first";
        return all;
    };
    Model one = opened(1);
    std::array<Outputs, kImages> alone;
    Outputs together(one.outputs().size());
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
    const std::string other = std::string(GetParam().isa) + "x2";
    const std::span kernels(d_.kernels, d_.kernels_count);
    if (std::ranges::none_of(kernels, [&](const auto &k) { return k.isa == other; })) GTEST_SKIP() << "of one kind";
    const auto outputs = [&](const char *isa) {
        Model model = opened(2, d_, isa);
        return outputs_of(model, expected_of(d_).input, kImages);
    };
    EXPECT_EQ(outputs(GetParam().isa), outputs(other.c_str()));
}

INSTANTIATE_TEST_SUITE_P(Models, EndToEnd, testing::ValuesIn(all_cases()),
                         [](const auto &info) { return case_name(info.param); });

}  // namespace
}  // namespace shufflenet
