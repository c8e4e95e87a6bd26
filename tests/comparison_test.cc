// The paper's comparison networks: their tables against what is published, and chains of every kind of step against the
// naive reference.
#include "networks/comparison.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "chain_33x47.h"
#include "chain_33x47_without_data_movement.h"
#include "chain_33x47_without_depthwise.h"
#include "chain_33x47_without_element_wise.h"
#include "chain_520x516.h"
#include "emulated.h"
#include "isa.h"
#include "networks/any_network.h"
#include "pooled_chain_61x45.h"
#include "reference/random_weights.h"
#include "reference/reference.h"
#include "shufflenet/model.h"

namespace shufflenet {
namespace {

constexpr int kGoldenClasses = 10;

// Tables.

Cost published_cost(const Comparison &c) { return total_cost(c, {c.crop, c.crop}, kDefaultClasses); }

TEST(Comparison, ParametersAndFlopsArePublishedOnes) {
    // torchvision's metadata of MobileNet_V2_Weights, and its model's own count; MobileNetV1: arXiv 1704.04861, Table
    // 6 (millions); ShuffleNetV1: the README of the authors' code (millions).
    constexpr double kMillion = 1e6;
    EXPECT_EQ(published_cost(*find_comparison("mobilenet_v2_x1_0")).parameters, 3'504'872);
    const std::vector<std::pair<const char *, double>> millions = {
        {"mobilenet_v1_x1_0", 4.2},  {"mobilenet_v1_x0_75", 2.6}, {"mobilenet_v1_x0_5", 1.3},
        {"mobilenet_v1_x0_25", 0.5}, {"shufflenet_v1_x2_0", 5.4}, {"shufflenet_v1_x1_5", 3.4},
        {"shufflenet_v1_x1_0", 1.9}, {"shufflenet_v1_x0_5", 0.7}, {"mobilenet_v2_x1_4", 6.1},
    };
    for (const auto &[name, expected] : millions) {
        const auto found = static_cast<double>(published_cost(*find_comparison(name)).parameters);
        EXPECT_NEAR(found / kMillion, expected, 0.05) << name;
    }
}

TEST(Comparison, EveryNetworkIsInTheTableOnce) {
    std::set<std::string_view> names;
    for (const AnyNetwork &n : published_networks()) EXPECT_TRUE(names.insert(n.name()).second) << n.name();
    EXPECT_EQ(names.size(), kNetworks.size() + kComparisons.size());
    EXPECT_FALSE(find_any_network("mobilenet_v3"));
    for (const AnyNetwork &n : published_networks()) EXPECT_EQ(find_any_network(n.name())->name(), n.name());
}

TEST(Comparison, LayersFollowOneAnother) {
    for (const Comparison &c : kComparisons) {
        const Chain chain = c.chain({c.crop, c.crop});
        for (size_t i = 1; i < chain.steps.size(); ++i) {
            const Step &s = chain.steps[i];
            EXPECT_EQ(s.middle() % s.expand_groups, 0) << c.name;
            EXPECT_EQ(s.in_channels % s.expand_groups, 0) << c.name;
            EXPECT_EQ(s.projected() % s.project_groups, 0) << c.name;
            if (s.shortcut == Shortcut::kAdd) {
                EXPECT_EQ(s.in_channels, s.out_channels);
                EXPECT_EQ(s.in, s.out);
            }
        }
        std::set<std::string_view> ids, modules;
        const std::vector<Layer> layers = chain_layers(chain, 10);
        for (const Layer &layer : layers) {
            EXPECT_TRUE(ids.insert(layer.id.view()).second) << c.name << ": " << layer.id.view();
            if (layer.has_weights()) {
                EXPECT_TRUE(modules.insert(layer.conv.view()).second) << layer.conv.view();
            }
        }
    }
}

// PyTorch.

/// tests/golden/comparison.json: what PyTorch computes, for weights and inputs that a seed reproduces.
const nlohmann::json &golden_cases() {
    static const nlohmann::json cases = [] {
        std::ifstream file(SHUFFLENET_SOURCE_DIR "/tests/golden/comparison.json");
        return nlohmann::json::parse(file).at("cases");
    }();
    return cases;
}

TEST(Comparison, WeightsAreNamedAsInPyTorch) {
    for (const auto &c : golden_cases()) {
        std::map<std::string, std::vector<int64_t>> expected, found;
        for (const auto &tensor : c.at("tensors")) expected[tensor[0]] = tensor[1].get<std::vector<int64_t>>();
        const Comparison &network = *find_comparison(c.at("network").get<std::string>());
        for (const auto &t : reference::random_state_dict(network, kGoldenClasses, 1)) found[t.name] = t.shape;
        EXPECT_EQ(found, expected) << network.name;
    }
}

TEST(Comparison, ReferenceComputesWhatPyTorchDoes) {
    for (const auto &c : golden_cases()) {
        const Comparison &network = *find_comparison(c.at("network").get<std::string>());
        const Size size{c.at("height"), c.at("width")};
        const uint64_t seed = c.at("seed");
        const std::vector<double> logits =
            reference::run(network, size, kGoldenClasses, reference::fold(network, kGoldenClasses, seed),
                           reference::random_input(size, 1, seed));
        const auto expected = c.at("logits").get<std::vector<double>>();
        const auto [low, high] = std::ranges::minmax(expected);
        ASSERT_EQ(logits.size(), expected.size());
        for (size_t i = 0; i < logits.size(); ++i) {
            // Both are doubles; the file's are rounded to floats.
            EXPECT_NEAR(logits[i], expected[i], 1e-7 * (std::abs(expected[i]) + high - low)) << network.name;
        }
    }
}

// Layouts.

TEST(Comparison, BlobsAndTensorsDoNotOverlap) {
    for (const Comparison &c : kComparisons) {
        const Chain chain = c.chain({c.crop, c.crop});
        const ChainArena arena = chain_arena(chain);
        for (size_t i = 0; i < chain.steps.size(); ++i) {
            const Step &s = chain.steps[i];
            if (s.kind != StepKind::kUnit) continue;
            const UnitLayout u = unit_layout(s);
            const int before = s.expanded > 0 ? s.expand_groups * u.expand_stride : 0;
            EXPECT_GE(u.depthwise.bias, before) << c.name << " step " << i;
            EXPECT_GE(u.project.bias, before + s.expand_groups * u.depthwise_stride);
            // Groups lie without gaps, and nothing is computed beyond the tensor.
            const int first = s.out_channels - s.projected();
            if (s.project_groups > 1) {
                EXPECT_EQ(u.project.lanes, s.projected() / s.project_groups);
            }
            EXPECT_LE(first + (s.project_groups - 1) * s.projected() / s.project_groups + u.project.lanes,
                      out_lanes(s));
            EXPECT_NE(arena.out[i], arena.out[s.shortcut == Shortcut::kConcat ? i - 2 : i - 1]);
            EXPECT_LE(arena.out[i] + out_lanes(s) * s.out.pixels(), arena.pooled);
        }
    }
}

// Kernels.

constexpr uint64_t kSeed = 11;
constexpr int kImages = 3;
// Single precision through about a dozen layers of sums of at most 36 products.
constexpr double kTolerance = 1e-5;

struct Case {
    const shufflenet_descriptor *model;
    const char *isa;
    friend std::ostream &operator<<(std::ostream &out, const Case &c) { return out << c.model->name << " " << c.isa; }
};

std::vector<Case> all_cases() {
    std::vector<Case> cases;
    for (const shufflenet_descriptor *model :
         {&chain_33x47_descriptor, &pooled_chain_61x45_descriptor, &chain_520x516_descriptor}) {
        for (int i = 0; i < model->kernels_count; ++i) cases.push_back({model, model->kernels[i].isa});
    }
    return cases;
}

class ChainModel : public testing::TestWithParam<Case> {
  protected:
    void SetUp() override {
        if (!cpu_has(GetParam().isa)) GTEST_SKIP() << "this CPU does not have " << GetParam().isa;
        setenv(kIsaVariable, GetParam().isa, 1);
        input_ = reference::random_input(size_, kImages, kSeed);
        // Large enough for ReLU6 to cut.
        for (float &value : input_) value *= 8;
    }
    void TearDown() override { unsetenv(kIsaVariable); }

    Model opened(int threads) const {
        Model model;
        Status status = model.open(d_, threads);
        EXPECT_TRUE(status.ok()) << status.message();
        status = model.load_weights(reference::random_safetensors(network_, d_.classes, kSeed), "random weights");
        EXPECT_TRUE(status.ok()) << status.message();
        EXPECT_STREQ(model.isa(), GetParam().isa);
        return model;
    }
    std::span<const float> images(int first, int count) const {
        const size_t image = size_t{3} * size_.pixels();
        return std::span(input_).subspan(first * image, count * image);
    }
    std::vector<float> run(Model &model, int first, int count) const {
        std::vector<float> logits(size_t(count) * d_.classes, NAN);
        const Status status = model.run(images(first, count), count, logits);
        EXPECT_TRUE(status.ok()) << status.message();
        return logits;
    }

    const shufflenet_descriptor &d_ = *GetParam().model;
    const Comparison &network_ = *find_comparison(d_.network);
    const Size size_{d_.height, d_.width};
    std::vector<float> input_;
};

TEST_P(ChainModel, LogitsMatchTheReference) {
    Model model = opened(1);
    const std::vector<float> logits = run(model, 0, kImages);
    const auto layers = reference::fold(network_, d_.classes, kSeed);
    for (int image = 0; image < kImages; ++image) {
        const std::vector<double> expected = reference::run(network_, size_, d_.classes, layers, images(image, 1));
        const auto [low, high] = std::ranges::minmax(expected);
        for (int i = 0; i < d_.classes; ++i) {
            EXPECT_NEAR(logits[image * d_.classes + i], expected[i], kTolerance * (high - low))
                << "image " << image << ", logit " << i;
        }
    }
}

TEST_P(ChainModel, BitIdenticalOverThreadsAndBatches) {
    Model one = opened(1);
    std::vector<float> alone;
    for (int image = 0; image < kImages; ++image) std::ranges::copy(run(one, image, 1), std::back_inserter(alone));
    for (const int threads : {1, 2, 3}) {
        Model model = opened(threads);
        EXPECT_EQ(run(model, 0, kImages), alone) << threads << " threads";
        EXPECT_EQ(run(model, 0, kImages), alone) << threads << " threads, again";
    }
}

TEST_P(ChainModel, HasNoFeatures) {
    Model model = opened(1);
    std::vector<float> logits(d_.classes), feature(1);
    const FeatureRequest request{Feature::kStage2, Layout::kNCHW, feature};
    EXPECT_EQ(model.run(images(0, 1), 1, logits, {&request, 1}).message(),
              std::string(d_.name) + ": a comparison network has no features");
    EXPECT_EQ(model.feature_shape(Feature::kConv5).elements(), 0U);
    FeatureView view;
    EXPECT_FALSE(model.view(Feature::kStage2, &view).ok());
}

INSTANTIATE_TEST_SUITE_P(Models, ChainModel, testing::ValuesIn(all_cases()), [](const auto &info) {
    return std::string(info.param.model->name) + "_on_" + info.param.isa;
});

// Kernels without some of their work, for the guidelines' decomposition.

struct WithoutCase {
    const shufflenet_descriptor *model;
    void (*change)(Step &);                       ///< What the step is without that work.
    void (*change_depthwise)(std::span<double>);  ///< The same of a depthwise convolution's taps of one channel.
};

const std::array<WithoutCase, 3> kWithout = {{
    {&chain_33x47_without_element_wise_descriptor,
     [](Step &s) {
         s.activation = s.expand_activation = s.depthwise_activation = Activation::kNone;
         if (s.shortcut == Shortcut::kAdd) s.shortcut = Shortcut::kNone;
     },
     nullptr},
    {&chain_33x47_without_depthwise_descriptor, nullptr,
     [](std::span<double> taps) {
         // The first one's weight is at the centre.
         taps[kTaps / 2] = taps[0];
         for (int tap = 0; tap < kTaps; ++tap) {
             if (tap != kTaps / 2) taps[tap] = 0;
         }
     }},
    {&chain_33x47_without_data_movement_descriptor, [](Step &s) { s.shuffle = 1; }, nullptr},
}};

TEST(Without, LogitsAreThoseOfTheChainWithoutThatWork) {
    for (const WithoutCase &c : kWithout) {
        SCOPED_TRACE(c.model->name);
        if (!cpu_has(c.model->kernels[0].isa)) GTEST_SKIP() << "this CPU does not have " << c.model->kernels[0].isa;
        const Comparison &network = *find_comparison(c.model->network);
        const Size size{c.model->height, c.model->width};
        const std::vector<float> image = reference::random_input(size, 1, kSeed);
        Model model;
        ASSERT_TRUE(model.open(*c.model, 1).ok());
        ASSERT_TRUE(model.load_weights(reference::random_safetensors(network, c.model->classes, kSeed), "random").ok());
        std::vector<float> logits(c.model->classes);
        ASSERT_TRUE(model.run(image, 1, logits).ok());

        auto layers = reference::fold(network, c.model->classes, kSeed);
        const auto whole = reference::run(network, size, c.model->classes, layers, image);
        const std::vector<Layer> rows = chain_layers(network.chain(size), c.model->classes);
        for (size_t i = 0; i < rows.size(); ++i) {
            if (c.change_depthwise == nullptr || rows[i].kind != LayerKind::kDepthwise) continue;
            for (int ch = 0; ch < rows[i].out_channels; ++ch) {
                c.change_depthwise(std::span(layers[i].weights).subspan(size_t(ch) * kTaps, kTaps));
            }
        }
        Chain chain = network.chain(size);
        for (Step &s : chain.steps) {
            if (c.change != nullptr) c.change(s);
        }
        const auto expected = reference::run(chain, c.model->classes, layers, image);
        const auto [low, high] = std::ranges::minmax(expected);
        for (int i = 0; i < c.model->classes; ++i) EXPECT_NEAR(logits[i], expected[i], kTolerance * (high - low)) << i;
        EXPECT_NE(whole, expected) << "it leaves nothing out";
    }
}

}  // namespace
}  // namespace shufflenet
