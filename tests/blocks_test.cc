// Blocks: their cost against counting, and their kernels against the naive reference.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "bench/block_runner.h"
#include "runtime/src/isa.h"

namespace shufflenet::bench {

std::span<const BlockKernel> small_block_kernels();

namespace {

/// Addresses and multiply-adds of an operation, counted one by one.
struct Counted {
    std::set<std::pair<int, int64_t>> elements;  ///< (input's number, output or weights, and index).
    int64_t flops = 0;
};

Counted count_accesses(const Operation &op) {
    constexpr int kOutput = -1, kWeights = -2;
    Counted counted;
    // Every element of an input that lies under no tap of no output still is one of the tensor's.
    const int outputs_of_group = op.out_channels / op.groups, inputs_of_group = op.in_channels / op.groups;
    for (int co = 0; co < op.out_channels; ++co) {
        for (int p = 0; p < op.out_size.pixels(); ++p) {
            counted.elements.emplace(kOutput, int64_t{co} * op.out_size.pixels() + p);
            if (op.kind != OperationKind::kConv) {
                for (size_t i = 0; i < op.in.size(); ++i) {
                    counted.elements.emplace(static_cast<int>(i), int64_t{co} * op.in_size.pixels() + p);
                }
                continue;
            }
            for (int ci = 0; ci < inputs_of_group; ++ci) {
                for (int tap = 0; tap < op.kernel * op.kernel; ++tap) {
                    ++counted.flops;
                    counted.elements.emplace(kWeights,
                                             (int64_t{co} * inputs_of_group + ci) * op.kernel * op.kernel + tap);
                    const int y = p / op.out_size.width * op.stride + tap / op.kernel - op.kernel / 2;
                    const int x = p % op.out_size.width * op.stride + tap % op.kernel - op.kernel / 2;
                    if (y < 0 || y >= op.in_size.height || x < 0 || x >= op.in_size.width) continue;
                    const int channel = co / outputs_of_group * inputs_of_group + ci;
                    counted.elements.emplace(0, int64_t{channel} * op.in_size.pixels() + y * op.in_size.width + x);
                }
            }
        }
    }
    return counted;
}

TEST(Cost, IsWhatCountingFinds) {
    const Size size{3, 4};
    BlockBuilder b("counted", 6, size, 1);
    const int wide = b.conv(0, 9, 1, true);
    const int grouped = b.conv(wide, 6, 1, false, 3);
    const int windowed = b.conv(grouped, 4, 3, true);
    const int deep = b.depthwise(windowed, 5);
    b.add(deep, b.relu(windowed));
    b.conv(b.shuffle(0, 2), 2, 3, false, 1, 2);
    const Block block = b.take();
    for (const Operation &op : block.operations) {
        const Counted counted = count_accesses(op);
        EXPECT_EQ(op.mac(), int64_t(counted.elements.size())) << op.in_channels << " to " << op.out_channels;
        // At the border a tap without a pixel counts too, as in the paper's h w c1 c2.
        EXPECT_EQ(op.flops(), counted.flops);
    }
}

TEST(Cost, FollowsThePapersEquations) {
    for (const Size size : {Size{1, 1}, Size{7, 9}, Size{56, 56}}) {
        for (const int in : {8, 24, 120}) {
            for (const int out : {8, 40, 480}) {
                double last = 0;
                for (const int groups : {1, 2, 4, 8}) {
                    BlockBuilder b("", in, size, groups);
                    b.conv(0, out, 1, true, groups);
                    const Operation op = b.take().operations[0];
                    const double hw = size.pixels(), flops = double(op.flops());
                    EXPECT_NEAR(double(op.mac()), grouped_mac(hw, in, groups, flops), 1e-9 * double(op.mac()));
                    // The inequality holds for one group; with the input and the FLOPs fixed, MAC grows with groups.
                    if (groups == 1) {
                        EXPECT_GE(double(op.mac()) * (1 + 1e-12), mac_lower_bound(size.pixels(), op.flops()));
                    }
                    const double at_equal_flops = grouped_mac(hw, in, groups, 1e6);
                    EXPECT_GT(at_equal_flops, last);
                    last = at_equal_flops;
                }
            }
        }
    }
}

TEST(Cost, RowsOfATableGrowAwayFromTheBound) {
    const Experiment *before = nullptr;
    const std::vector<Experiment> all = experiments();
    for (const Experiment &e : all) {
        if (e.table != "g1" && e.table != "g2") continue;
        if (before != nullptr && before->table == e.table && before->width == e.width) {
            EXPECT_GT(e.block.mac(), before->block.mac()) << e.block.name.view();
        }
        before = &e;
    }
}

TEST(Layout, GroupsDoNotShareLanes) {
    for (const auto &[channels, groups] : {std::pair{7, 1}, {90, 2}, {184, 8}, {240, 3}, {24, 3}, {36, 4}}) {
        const TensorLayout layout{channels, groups, {2, 2}};
        std::set<int> lanes;
        for (int c = 0; c < channels; ++c) lanes.insert(layout.lane(c));
        EXPECT_EQ(int(lanes.size()), channels);
        EXPECT_LT(*lanes.rbegin(), layout.lanes());
        for (const int machine_vec : {4, 8, 16}) {
            for (const ChannelPart &part : channel_parts(layout.group_channels(), kPanelFloats, machine_vec)) {
                EXPECT_LE(part.first + part.lanes, layout.group_lanes()) << channels << " in " << groups;
            }
        }
    }
}

TEST(Tables, NamesAreUnique) {
    std::set<std::string> names;
    for (const Experiment &e : experiments())
        EXPECT_TRUE(names.emplace(e.block.name.view()).second) << e.block.name.view();
    for (const Block &block : small_blocks()) EXPECT_TRUE(names.emplace(block.name.view()).second) << block.name.view();
    EXPECT_THROW(find_block("nonsense"), std::runtime_error);
}

TEST(Reference, ConvolutionIsTheNetworksOwn) {
    const Size size{5, 6};
    for (const bool depthwise : {false, true}) {
        for (const int stride : {1, 2}) {
            BlockBuilder b("both", 4, size);
            depthwise ? b.depthwise(0, 3, stride) : b.conv(0, 3, 3, false, 1, stride);
            const Block block = b.take();
            const reference::BlockWeights weights = reference::random_block_weights(block, 3);
            const reference::Tensor in = reference::random_tensor(block.tensor(0), 3);
            const auto &w = weights[0];
            const reference::Tensor expected = depthwise ? reference::depthwise3x3(in, w.weights, w.bias, stride)
                                                         : reference::conv3x3(in, w.weights, w.bias, 3, stride);
            const reference::Tensor found = reference::run_block(block, weights, in).back();
            ASSERT_EQ(found.data.size(), expected.data.size());
            for (size_t i = 0; i < found.data.size(); ++i) EXPECT_NEAR(found.data[i], expected.data[i], 1e-12);
        }
    }
}

TEST(Reference, PoolsByHand) {
    reference::Tensor in(1, 2, 3);
    in.data = {1, -2, 3, 4, 5, -6};
    EXPECT_EQ(reference::pool3x3(in, false, 1).data, (std::vector<double>{5, 5, 5, 5, 5, 5}));
    EXPECT_EQ(reference::pool3x3(in, true, 1).data, (std::vector<double>{2, 5.0 / 6, 0, 2, 5.0 / 6, 0}));
    in.data[3] = NAN;
    const std::vector<double> kept = reference::pool3x3(in, false, 1).data;
    for (size_t i = 0; i < kept.size(); ++i) EXPECT_EQ(std::isnan(kept[i]), i % 3 < 2) << i;
}

class SmallBlock : public ::testing::TestWithParam<Block> {};

TEST_P(SmallBlock, IsTheReferences) {
    if (!cpu_has(BLOCK_ISA)) GTEST_SKIP() << "this CPU does not have " << BLOCK_ISA;
    const Block &block = GetParam();
    for (const int threads : {1, 2}) {
        BlockRunner unfused(block, small_block_kernels(), BLOCK_ISA, false, 3, threads);
        EXPECT_LT(unfused.verify(), 1e-5);
        const double took = unfused.run();
        EXPECT_GT(unfused.fastest(), 0);
        EXPECT_LE(unfused.fastest(), took * (1 + 1e-9));
        const auto parts = unfused.fastest_parts();
        for (const Operation &op : block.operations) EXPECT_GT(parts[static_cast<int>(op.part())], 0);
        if (!has_fused_kernel(block)) continue;
        BlockRunner fused(block, small_block_kernels(), BLOCK_ISA, true, 3, threads);
        EXPECT_EQ(fused.calls(), 3U);
        if (fused_is_right(block, BLOCK_ISA)) {
            EXPECT_LT(fused.verify(), 1e-5);
        } else {
            EXPECT_THROW(fused.verify(), std::runtime_error) << "it is right now";
        }
    }
}

/// The output starts as NaN in verify(): an infinity shows that what is finite is computed.
TEST_P(SmallBlock, ShowsWhatIsNotFinite) {
    if (!cpu_has(BLOCK_ISA)) GTEST_SKIP() << "this CPU does not have " << BLOCK_ISA;
    const Block &block = GetParam();
    const TensorLayout in = block.tensor(0);
    for (const bool fused : {false, true}) {
        if (fused && (!has_fused_kernel(block) || !fused_is_right(block, BLOCK_ISA))) continue;
        BlockRunner runner(block, small_block_kernels(), BLOCK_ISA, fused, 1, 1);
        for (const int pixel : {0, in.size.pixels() / 2, in.size.pixels() - 1}) {
            for (const float value : {NAN, -NAN, INFINITY, -INFINITY, 1.0F}) {
                SCOPED_TRACE(testing::Message() << value << " at pixel " << pixel << (fused ? ", fused" : ""));
                runner.set_input(in.channels - 1, pixel, value);
                EXPECT_LT(runner.verify(), 1e-5);
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(All, SmallBlock, ::testing::ValuesIn(small_blocks()),
                         [](const auto &info) { return std::string(info.param.name.view()); });

TEST(Runner, KernelsThatAreNotThere) {
    EXPECT_THROW(BlockRunner(find_block("g1_32_32_x1"), small_block_kernels(), BLOCK_ISA, false, 1, 1),
                 std::runtime_error);
}

}  // namespace

}  // namespace shufflenet::bench
