// The channel schedule does what it claims: a stage whose units read channels where earlier units left them equals,
// bit for bit, one that splits, concatenates and shuffles after every unit, with the same kernels.
#include <gtest/gtest.h>

#include <cstring>

#include "backbone.h"
#include "checkpoint.h"
#include "emulated.h"
#include "isa.h"
#include "reference/random_weights.h"
#include "safetensors.h"
#include "test_models.h"

namespace shufflenet {
namespace {

constexpr uint64_t kSeed = 11;

/// A tensor in the plain layout: channels[c][pixel].
using Plain = std::vector<std::vector<float>>;

class Shuffle : public testing::TestWithParam<const shufflenet_descriptor *> {
  protected:
    void SetUp() override {
        const shufflenet_descriptor &d = *GetParam();
        if (runs_once(d)) GTEST_SKIP() << "takes too long under an emulator";
        ASSERT_TRUE(choose_kernels(d, &kernels_).ok());
        network_ = find_network(d.network);
        backbone_ = make_backbone(d, *kernels_, *network_);
        const auto file = reference::random_safetensors(*network_, d.classes, kSeed);
        Safetensors tensors;
        ASSERT_TRUE(Safetensors::parse(file, "random", &tensors).ok());
        ASSERT_TRUE(pack_weights(tensors, "random", *network_, backbone_.input, kPanelFloats, &weights_).ok());
        ASSERT_TRUE(arena_.allocate(backbone_.arena.size) && other_.allocate(backbone_.arena.size));
        ASSERT_TRUE(memory_.allocate(kScratchBytes));
        scratch_ = {.begin = memory_.data(), .size = memory_.size()};
    }

    static std::vector<float> channel(const float *stage, const BlockLayout &block, Slot slot) {
        std::vector<float> values(block.pixels);
        for (int p = 0; p < block.pixels; ++p) values[p] = stage[block.offset(slot) + p * block.lanes()];
        return values;
    }

    const shufflenet_kernels *kernels_ = nullptr;
    const Network *network_ = nullptr;
    Backbone backbone_;
    PackedWeights weights_;
    AlignedArray<float> arena_, other_;
    AlignedArray<std::byte> memory_;
    Scratch scratch_;
    KernelError error_;
    KernelContext context_{.scratch = &scratch_, .error = &error_};
};

TEST_P(Shuffle, EqualsThePlainStageBitForBit) {
    const shufflenet_descriptor &d = *GetParam();
    const auto image = reference::random_input(backbone_.input, 1, kSeed);
    ImageRun run(backbone_, weights_, arena_.data(), context_);
    ASSERT_TRUE(run.stem(image.data()));
    for (int number = 2; number < 2 + kStages; ++number) {
        ASSERT_TRUE(run.stage(number));
        const int s = number - 2;
        const BlockLayout &block = backbone_.blocks[s];
        const int c = backbone_.stages[s].branch_channels;
        const StagePlan plan = make_stage_plan(c, backbone_.stages[s].units);
        float *stage = arena_.data() + backbone_.arena.stage[s];

        // The plain stage: after the downsampling unit, the channels of both branches, interleaved.
        Plain x(2 * c);
        for (int i = 0; i < c; ++i) {
            x[2 * i] = channel(stage, block, {0, plan.index_of[0][i]});
            x[2 * i + 1] = channel(stage, block, {1, plan.index_of[1][i]});
        }
        for (int u = 1; u < backbone_.stages[s].units; ++u) {
            // Split: the second half goes to the unit, put where its table looks for it, among garbage.
            std::memcpy(other_.data(), arena_.data(), sizeof(float) * backbone_.arena.size);
            float *scattered = other_.data() + backbone_.arena.stage[s];
            std::fill_n(scattered, block.size(), -1e30F);
            for (int i = 0; i < c; ++i) {
                const int offset = block.offset(plan.inputs[u][i]);
                for (int p = 0; p < block.pixels; ++p) scattered[offset + p * block.lanes()] = x[c + i][p];
            }
            ImageRun alone(backbone_, weights_, other_.data(), context_);
            ASSERT_TRUE(alone.unit(number, u)) << number << " " << u;
            // Concatenate and shuffle.
            Plain next(2 * c);
            for (int i = 0; i < c; ++i) {
                next[2 * i] = x[i];
                next[2 * i + 1] = channel(scattered, block, {u + 1, plan.index_of[u + 1][i]});
            }
            x = next;
        }
        for (int i = 0; i < 2 * c; ++i) {
            EXPECT_EQ(x[i], channel(stage, block, plan.outputs[i]))
                << d.name << " stage " << number << " channel " << i;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Models, Shuffle, testing::ValuesIn(kTestModels),
                         [](const auto &info) { return info.param->name; });

}  // namespace
}  // namespace shufflenet
