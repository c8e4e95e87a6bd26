// Values in the input that are not finite show at the outputs, as in IEEE arithmetic and in PyTorch: every model on
// every instruction set that the CPU has.
#include "nonfinite.h"

#include <gtest/gtest.h>

#include <map>
#include <tuple>

#include "model_cases.h"
#include "reference/random_weights.h"
#include "shufflenet/model.h"

namespace shufflenet {
namespace {

Size size_of(const shufflenet_descriptor &d) { return {d.height, d.width}; }

/// Made once; the instruction sets share it.
const std::vector<reference::Tensor> &expected_with(const shufflenet_descriptor &d, const Spot &spot) {
    using Key = std::tuple<const shufflenet_descriptor *, size_t, std::string>;
    static std::map<Key, std::vector<reference::Tensor>> cache;
    auto [entry, fresh] = cache.try_emplace({&d, spot.index(size_of(d)), kind_of(spot.value)});
    if (fresh) {
        static const shufflenet_descriptor *last = nullptr;
        static std::vector<reference::LayerWeights> layers;
        if (last != &d) layers = reference::fold(graph_of(d), kSeed);
        last = &d;
        entry->second = reference::run(graph_of(d), layers, with_spot(images_for(graph_of(d), 1), spot, size_of(d)));
    }
    return entry->second;
}

class NonFinite : public testing::TestWithParam<Case> {
  protected:
    void SetUp() override {
        if (!cpu_has(GetParam().isa)) GTEST_SKIP() << "this CPU does not have " << GetParam().isa;
        if (kEmulated && spots_of(d_).size() < 4) GTEST_SKIP() << "takes too long under an emulator";
        isa_.emplace(GetParam().isa);
    }

    Model opened(int threads) const {
        Model model;
        EXPECT_TRUE(model.open(d_, threads).ok());
        const Status status = model.load_weights(reference::random_safetensors(graph_of(d_), kSeed), "random weights");
        EXPECT_TRUE(status.ok()) << status.message();
        EXPECT_STREQ(model.isa(), GetParam().isa);
        return model;
    }

    const shufflenet_descriptor &d_ = *GetParam().model;
    std::optional<ForcedIsa> isa_;
};

TEST_P(NonFinite, ShowsAtTheOutputs) {
    Model model = opened(2);
    expect_spots_show(
        model, d_,
        images_for(graph_of(d_), 1), [&](const Spot &spot) -> const auto & { return expected_with(d_, spot); });
}

TEST_P(NonFinite, StaysInItsImage) {
    const std::vector<float> good = images_for(graph_of(d_), kImages);
    const size_t image = good.size() / kImages;
    for (const int threads : {1, 2, 3}) {
        Model model = opened(threads);
        const auto expected = outputs_of(model, good, kImages);
        for (const int spoilt : {0, 2, kImages - 1}) {
            std::vector<float> input = good;
            input[spoilt * image + image / 2] = NAN;
            const auto found = outputs_of(model, input, kImages);
            for (int i = 0; i < kImages; ++i) {
                const auto own = image_of(found, i, kImages);
                if (i != spoilt) {
                    ASSERT_EQ(own, image_of(expected, i, kImages)) << threads << " threads, image " << i;
                    continue;
                }
                if (d_.classes == 0) continue;
                for (const float logit : own[0]) ASSERT_TRUE(std::isnan(logit)) << threads << " threads";
            }
        }
    }
}

/// Convolutions of the stem that underflow to -0, beside some that give 1: the pool's maximum is 1.
TEST_P(NonFinite, PoolsZerosWithASign) {
    const networks::Graph &graph = graph_of(d_);
    std::vector<reference::NamedTensor> tensors = reference::random_state_dict(graph, kSeed);
    // In the order of layers: weights of the stem, then what its batch normalisation has.
    std::ranges::fill(tensors.at(0).values, -1e-30F);
    for (const size_t zero : {2, 3}) std::ranges::fill(tensors.at(zero).values, 0.0F);
    for (const size_t one : {1, 4}) std::ranges::fill(tensors.at(one).values, 1.0F);
    std::vector<float> image(size_t{3} * size_of(d_).pixels(), 1e-30F);
    constexpr size_t kApart = 37;
    for (size_t i = 0; i < image.size(); i += kApart) image[i] = -1e30F;

    Model model = opened(1);
    const Status status = model.load_weights(reference::to_safetensors(tensors), "weights that underflow");
    ASSERT_TRUE(status.ok()) << status.message();
    const auto found = outputs_of(model, image, 1);
    const auto expected = reference::run(graph, reference::fold(graph, tensors), image);
    for (size_t i = 0; i < found.size(); ++i) expect_same_kinds(found[i], expected[i].data, tolerance_of(d_));
}

INSTANTIATE_TEST_SUITE_P(Models, NonFinite, testing::ValuesIn(all_cases()),
                         [](const auto &info) { return case_name(info.param); });

}  // namespace
}  // namespace shufflenet
