// Facts of networks/: the tables against torchvision and the paper, the channel plan against a naive simulation, the
// layouts against their own promises.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "../networks/layers.h"
#include "../networks/layout.h"
#include "../networks/network.h"
#include "../networks/stage_plan.h"
#include "golden/golden.h"
#include "reference/reference.h"

namespace shufflenet {
namespace {

constexpr Size kCrop{kDefaultCrop, kDefaultCrop};

std::vector<Network> all_networks() {
    std::vector<Network> all(kNetworks.begin(), kNetworks.end());
    all.insert(all.end(), kTestNetworks.begin(), kTestNetworks.end());
    return all;
}

const std::vector<Size> kSizes = {{32, 32}, {33, 47}, {97, 64}, {224, 224}, {225, 225}};
const std::vector<int> kVectors = {4, 8, 16};

// network.h

TEST(Network, NamesAreUniqueAndFound) {
    std::set<std::string_view> names;
    for (const Network &n : all_networks()) {
        EXPECT_TRUE(names.insert(n.name).second) << n.name;
        ASSERT_NE(find_network(n.name), nullptr) << n.name;
        EXPECT_EQ(find_network(n.name)->name, n.name);
        EXPECT_EQ(find_network(n.name)->stage_channels, n.stage_channels);
    }
    EXPECT_EQ(find_network("shufflenet_v2_x3_0"), nullptr);
    EXPECT_EQ(find_network(""), nullptr);
}

TEST(Network, HalvedCountsTheWindowsOfAPaddedRow) {
    for (int size = 1; size <= kMaxInput; ++size) {
        int windows = 0;
        for (int begin = -1; begin + 3 <= size + 1; begin += 2) ++windows;
        EXPECT_EQ(halved(size), windows) << size;
    }
}

TEST(Network, RoundUpIsTheSmallestMultipleNotBelow) {
    for (int multiple = 1; multiple <= 17; ++multiple) {
        for (int value = 0; value <= 100; ++value) {
            const int rounded = round_up(value, multiple);
            EXPECT_EQ(rounded % multiple, 0);
            EXPECT_GE(rounded, value);
            EXPECT_LT(rounded - value, multiple);
            EXPECT_EQ(round_up(int64_t{value} << 32, int64_t{multiple} << 32), int64_t{rounded} << 32);
        }
    }
}

TEST(Network, ShapesAreTorchvisions) {
    for (const golden::Case &c : golden::load().cases) {
        SCOPED_TRACE(c.name);
        ASSERT_EQ(c.features.size(), 4U);
        for (int number = 2; number <= 4; ++number) {
            const golden::Feature &expected = c.features[number - 2];
            const StageShape s = stage_shape(*c.network, c.input, number);
            EXPECT_EQ(s.number, number);
            EXPECT_EQ(s.out, (Size{expected.height, expected.width}));
            EXPECT_EQ(2 * s.branch_channels, expected.channels);
        }
        EXPECT_EQ(c.network->conv5_channels, c.features[3].channels);
        EXPECT_EQ(head_size(*c.network, c.input), (Size{c.features[3].height, c.features[3].width}));
    }
}

// layers.h

std::vector<golden::NamedShape> expected_tensors(const Network &n) {
    std::vector<golden::NamedShape> tensors;
    for (const Layer &layer : network_layers(n, kCrop, kDefaultClasses)) {
        if (!layer.has_weights()) continue;
        const std::string conv(layer.conv.view()), norm(layer.norm.view());
        const int64_t out = layer.out_channels;
        if (norm.empty()) {
            tensors.push_back({conv + ".weight", {out, layer.group_channels()}});
            tensors.push_back({conv + ".bias", {out}});
            continue;
        }
        tensors.push_back({conv + ".weight", {out, layer.group_channels(), layer.kernel(), layer.kernel()}});
        for (const char *field : {".weight", ".bias", ".running_mean", ".running_var"}) {
            tensors.push_back({norm + field, {out}});
        }
        tensors.push_back({norm + ".num_batches_tracked", {}});
    }
    return tensors;
}

TEST(Layers, NamesAndShapesAreTorchvisions) {
    ASSERT_EQ(golden::load().state_dicts.size(), all_networks().size());
    for (const golden::StateDict &expected : golden::load().state_dicts) {
        const auto actual = expected_tensors(*expected.network);
        ASSERT_EQ(actual.size(), expected.tensors.size()) << expected.network->name;
        for (size_t i = 0; i < actual.size(); ++i) {
            EXPECT_EQ(actual[i].name, expected.tensors[i].name);
            EXPECT_EQ(actual[i].shape, expected.tensors[i].shape) << actual[i].name;
        }
    }
}

TEST(Layers, ParametersAreTorchvisions) {
    for (const golden::StateDict &dict : golden::load().state_dicts) {
        int64_t learned = 0;
        for (const auto &[name, shape] : dict.tensors) {
            const bool statistic = name.find("running") != std::string::npos || name.ends_with("tracked");
            if (!statistic) learned += std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
        }
        EXPECT_EQ(total_cost(*dict.network, kCrop, kDefaultClasses).parameters, learned) << dict.network->name;
    }
}

TEST(Layers, CostsAreThePublishedOnes) {
    // Paper Table 5 (multiply-adds in 10^6) and torchvision's weight entries (num_params, _ops in 10^9).
    const std::vector<std::tuple<std::string, int64_t, int64_t, double>> published = {
        {"shufflenet_v2_x0_5", 1'366'792, 41, 0.04},
        {"shufflenet_v2_x1_0", 2'278'604, 146, 0.145},
        {"shufflenet_v2_x1_5", 3'503'624, 299, 0.296},
        {"shufflenet_v2_x2_0", 7'393'996, 591, 0.583},
    };
    for (const auto &[name, parameters, paper, torchvision] : published) {
        const Network *n = find_network(name);
        ASSERT_NE(n, nullptr);
        const Cost cost = total_cost(*n, kCrop, kDefaultClasses);
        EXPECT_EQ(cost.parameters, parameters) << name;
        EXPECT_NEAR(double(cost.flops) / 1e9, torchvision, 0.0005) << name;
        EXPECT_NEAR(double(paper_flops(*n)) / 1e6, double(paper), 1) << name;
    }
}

TEST(Layers, IdsAreUniqueAndSayTheRow) {
    for (const Network &n : all_networks()) {
        std::set<std::string> ids;
        const auto layers = network_layers(n, kCrop, kDefaultClasses);
        for (const Layer &layer : layers) EXPECT_TRUE(ids.emplace(layer.id.view()).second) << layer.id.view();
        for (int number = 2; number <= 4; ++number) {
            for (int u = 0; u < n.units[number - 2]; ++u) {
                const std::string unit = "stage" + std::to_string(number) + "_unit" + std::to_string(u) + "_";
                for (const char *layer : {"branch2_pw1", "branch2_dw", "branch2_pw2"}) {
                    EXPECT_EQ(ids.count(unit + layer), 1U) << unit << layer;
                }
                for (const char *layer : {"branch1_dw", "branch1_pw"}) {
                    EXPECT_EQ(ids.count(unit + layer), u == 0 ? 1U : 0U) << unit << layer;
                }
            }
        }
    }
}

TEST(Layers, RowsAsTheReferenceCountsThem) {
    for (const Network &n : all_networks()) {
        size_t rows = 5;  // stem's convolution and pool, conv5, pool, fc
        for (const int units : n.units) rows += reference::stage_layers(units);
        EXPECT_EQ(network_layers(n, kCrop, kDefaultClasses).size(), rows) << n.name;
    }
}

/// What a layer's input should be: the layer before it in its branch, or the unit's input.
struct Activation {
    int channels;
    Size size;
    bool operator==(const Activation &) const = default;
};

TEST(Layers, EachReadsWhatItsPredecessorWrites) {
    for (const Network &n : all_networks()) {
        Activation unit_input{}, previous{3, kSizes[2]};
        for (const Layer &layer : network_layers(n, kSizes[2], 10)) {
            SCOPED_TRACE(layer.id.view());
            const std::string_view id = layer.id;
            const bool basic =
                id.find("_unit") != std::string_view::npos && id.find("_unit0_") == std::string_view::npos;
            if (id.ends_with("_branch1_dw")) unit_input = previous;
            if (id.ends_with("_branch2_pw1")) {
                // A unit's output is two branches wide; a basic unit reads half of it.
                if (basic) previous = {unit_input.channels / 2, unit_input.size};
                if (!basic) previous = unit_input;
            }
            EXPECT_EQ((Activation{layer.in_channels, layer.in}), previous);
            previous = {layer.out_channels, layer.out};
            if (id.ends_with("_branch2_pw2")) previous = unit_input = {2 * layer.out_channels, layer.out};
        }
        EXPECT_EQ(previous, (Activation{10, {1, 1}}));
    }
}

TEST(Layers, ReluFollowsConvolutionsButNotDepthwiseOnes) {
    for (const Layer &layer : network_layers(kNetworks[1], kCrop, kDefaultClasses)) {
        const bool expected = layer.kind == LayerKind::kConv || layer.kind == LayerKind::kPointwise;
        EXPECT_EQ(layer.relu, expected) << layer.id.view();
    }
}

TEST(Layers, KindsHaveNames) {
    std::set<std::string_view> names;
    for (const Layer &layer : network_layers(kNetworks[0], kCrop, 10)) names.insert(to_string(layer.kind));
    EXPECT_EQ(names, (std::set<std::string_view>{"conv", "depthwise", "pointwise", "max_pool", "global_pool",
                                                 "fully_connected"}));
}

TEST(Layers, NameAppendsTextAndNumbers) {
    static_assert((Name("stage") + 4 + "_unit" + 11).view() == "stage4_unit11");
    static_assert((Name("") + 0 + 10 + 907).view() == "010907");
    static_assert(Name().empty() && !Name("a").empty());
    EXPECT_THROW(Name(std::string(41, 'x').c_str()), std::out_of_range);
}

/// Multiply-adds and distinct elements of a layer with weights, counted one by one.
struct Counted {
    int64_t flops = 0;
    std::set<std::tuple<int, int, int>> in, out;
    std::set<std::tuple<int, int, int, int>> weights;
    int64_t mac() const { return int64_t(in.size() + out.size() + weights.size()); }
};

// NOLINTNEXTLINE(readability-function-cognitive-complexity): loops over everything, so that nothing can be wrong.
Counted count(const Layer &layer) {
    const bool depthwise = layer.kind == LayerKind::kDepthwise;
    const bool window = depthwise || layer.kind == LayerKind::kConv;
    const int stride = layer.in == layer.out ? 1 : 2;
    const int taps = window ? 3 : 1, padding = window ? 1 : 0;
    Counted counted;
    for (int co = 0; co < layer.out_channels; ++co) {
        for (int ci = depthwise ? co : 0; ci < (depthwise ? co + 1 : layer.in_channels); ++ci) {
            for (int y = 0; y < layer.out.height; ++y) {
                for (int x = 0; x < layer.out.width; ++x) {
                    counted.out.emplace(co, y, x);
                    for (int tap = 0; tap < taps * taps; ++tap) {
                        const int yi = y * stride + tap / taps - padding, xi = x * stride + tap % taps - padding;
                        ++counted.flops;  // padding is multiplied too, as published counts have it
                        counted.weights.emplace(co, ci, tap / taps, tap % taps);
                        const bool inside = yi >= 0 && yi < layer.in.height && xi >= 0 && xi < layer.in.width;
                        if (inside) counted.in.emplace(ci, yi, xi);
                    }
                }
            }
        }
    }
    return counted;
}

TEST(Cost, EqualsCountingOneByOne) {
    for (const auto &[network, size] : {std::pair{kTestNetworks[1], Size{32, 32}}, {kTestNetworks[0], {33, 35}}}) {
        Cost total;
        for (const Layer &layer : network_layers(network, size, 5)) {
            SCOPED_TRACE(layer.id.view());
            if (!layer.has_weights()) {
                EXPECT_EQ(layer.flops(), 0);
                total.mac += layer.in.pixels() * layer.in_channels + layer.out.pixels() * layer.out_channels;
                EXPECT_EQ(layer.weight_elements(), 0);
                continue;
            }
            const Counted counted = count(layer);
            EXPECT_EQ(layer.flops(), counted.flops);
            EXPECT_EQ(layer.mac(), counted.mac());
            EXPECT_EQ(layer.weight_elements(), int64_t(counted.weights.size()));
            total.flops += counted.flops;
            total.mac += counted.mac();
        }
        EXPECT_EQ(total_cost(network, size, 5).flops, total.flops);
        EXPECT_EQ(total_cost(network, size, 5).mac, total.mac);
    }
}

Layer pointwise_layer(int c1, int c2, Size size) {
    return {LayerKind::kPointwise, "pw", "pw", "bn", c1, c2, size, size, true};
}

TEST(Cost, GuidelineG1BoundsPointwiseLayersFromBelow) {
    for (const Size size : {Size{1, 1}, {1, 7}, {7, 7}, {28, 28}, {56, 56}}) {
        for (const int c1 : {1, 2, 3, 7, 24, 58, 61, 232, 1024}) {
            for (const int c2 : {1, 2, 5, 24, 58, 122, 1024}) {
                const Layer layer = pointwise_layer(c1, c2, size);
                const double mac = double(layer.mac()), bound = mac_lower_bound(size.pixels(), layer.flops());
                const double rounding = 1e-12 * mac;
                EXPECT_GE(mac, bound - rounding) << c1 << " -> " << c2;
                // Equality exactly if the widths are equal (paper, G1).
                EXPECT_EQ(mac - bound <= rounding, c1 == c2) << c1 << " -> " << c2 << " at " << size.pixels();
            }
        }
    }
}

TEST(Cost, BasicUnitsMeetTheG1Bound) {
    for (const Network &n : kNetworks) {
        for (const Layer &layer : network_layers(n, kCrop, kDefaultClasses)) {
            if (layer.kind != LayerKind::kPointwise) continue;
            const double bound = mac_lower_bound(layer.out.pixels(), layer.flops());
            EXPECT_GE(double(layer.mac()) * (1 + 1e-12), bound) << layer.id.view();
            const bool equal_width = layer.in_channels == layer.out_channels;
            EXPECT_EQ(double(layer.mac()) <= bound * (1 + 1e-12), equal_width) << layer.id.view();
        }
    }
}

// stage_plan.h

/// Runs `check` on the plans of many stages: all of the networks', primes, powers of two, one channel.
void for_each_plan(const std::function<void(const StagePlan &)> &check) {
    for (const int c : {1, 2, 3, 4, 5, 7, 8, 12, 13, 16, 17, 24, 29, 31, 37, 48, 58, 61, 88, 116, 122, 244, 488}) {
        for (int units = 1; units <= 12; ++units) {
            SCOPED_TRACE("c = " + std::to_string(c) + ", units = " + std::to_string(units));
            const StagePlan plan = make_stage_plan(c, units);
            ASSERT_EQ(plan.branch_channels, c);
            ASSERT_EQ(plan.units, units);
            ASSERT_EQ(plan.blocks(), units + 1);
            ASSERT_EQ(int(plan.index_of.size()), plan.blocks());
            ASSERT_EQ(int(plan.residence.size()), plan.blocks());
            ASSERT_EQ(int(plan.inputs.size()), units);
            ASSERT_EQ(int(plan.outputs.size()), 2 * c);
            check(plan);
        }
    }
}

/// The unit that writes a block: the downsampling unit 0 writes two.
int writer(int block) { return std::max(0, block - 1); }

/// Indices of `block` among `slots`, sorted.
std::vector<int> indices_in(const std::vector<Slot> &slots, int block) {
    std::vector<int> indices;
    for (const Slot &s : slots) {
        if (s.block == block) indices.push_back(s.index);
    }
    std::ranges::sort(indices);
    return indices;
}

/// begin, begin + 1, ..., begin + size - 1
std::vector<int> range(int begin, size_t size) {
    std::vector<int> values(size);
    std::iota(values.begin(), values.end(), begin);
    return values;
}

TEST(StagePlan, StorageOrderIsABijection) {
    for_each_plan([](const StagePlan &plan) {
        for (std::vector<int> indices : plan.index_of) {
            std::ranges::sort(indices);
            EXPECT_EQ(indices, range(0, plan.branch_channels));
        }
    });
}

TEST(StagePlan, ResidenceFollowsFromDoublingPositions) {
    for_each_plan([](const StagePlan &plan) {
        const int c = plan.branch_channels;
        for (int b = 0; b < plan.blocks(); ++b) {
            for (int j = 0; j < c; ++j) {
                // Written to position p, and doubled by each unit that leaves it in the identity half; 0 stays there.
                int64_t position = b == 0 ? 2 * j : 2 * j + 1;
                int unit = writer(b) + 1;
                for (; position < c && unit < plan.units; ++unit) position *= 2;
                const int waited = plan.residence[b][j];
                if (unit < plan.units) {
                    EXPECT_EQ(waited, unit - writer(b));
                } else {
                    EXPECT_GT(waited, plan.units) << "alive at the end: block " << b << " output " << j;
                }
            }
        }
    });
}

TEST(StagePlan, BlocksAreOrderedByResidence) {
    for_each_plan([](const StagePlan &plan) {
        for (int b = 0; b < plan.blocks(); ++b) {
            std::vector<int> stored(plan.branch_channels);
            for (int j = 0; j < plan.branch_channels; ++j) stored.at(plan.index_of[b][j]) = plan.residence[b][j];
            EXPECT_TRUE(std::ranges::is_sorted(stored)) << "block " << b;
        }
    });
}

TEST(StagePlan, EachUnitConsumesTheResidenceGroupsThatAreDue) {
    for_each_plan([](const StagePlan &plan) {
        for (int u = 1; u < plan.units; ++u) {
            EXPECT_EQ(int(plan.inputs[u].size()), plan.branch_channels);
            for (int b = 0; b < plan.blocks(); ++b) {
                std::vector<int> due;
                for (int j = 0; j < plan.branch_channels; ++j) {
                    if (writer(b) + plan.residence[b][j] == u) due.push_back(plan.index_of[b][j]);
                }
                std::ranges::sort(due);
                EXPECT_EQ(indices_in(plan.inputs[u], b), due) << "unit " << u << " block " << b;
            }
        }
    });
}

TEST(StagePlan, AboutHalfWaitOneUnitAQuarterTwoAndSoOn) {
    for_each_plan([](const StagePlan &plan) {
        for (int b = 1; b < plan.blocks(); ++b) {
            for (int waited = 1; writer(b) + waited < plan.units; ++waited) {
                const auto group = double(std::ranges::count(plan.residence[b], waited));
                EXPECT_NEAR(group, std::ldexp(plan.branch_channels, -waited), 1.0) << "block " << b;
            }
        }
    });
}

TEST(StagePlan, EveryChannelIsConsumedOnceOrAliveAtTheEnd) {
    for_each_plan([](const StagePlan &plan) {
        std::vector<Slot> used = plan.outputs, all;
        for (const auto &inputs : plan.inputs) used.insert(used.end(), inputs.begin(), inputs.end());
        for (int b = 0; b < plan.blocks(); ++b) {
            for (int i = 0; i < plan.branch_channels; ++i) all.push_back({b, i});
        }
        std::ranges::sort(used);
        EXPECT_EQ(used, all);
    });
}

TEST(StagePlan, NothingIsReadBeforeItIsWritten) {
    for_each_plan([](const StagePlan &plan) {
        EXPECT_TRUE(plan.inputs[0].empty());  // unit 0 reads another tensor
        for (int u = 1; u < plan.units; ++u) {
            for (const Slot &s : plan.inputs[u]) EXPECT_LT(writer(s.block), u);
        }
    });
}

TEST(StagePlan, AUnitReadsOneRunOfEachBlock) {
    for_each_plan([](const StagePlan &plan) {
        for (int u = 1; u < plan.units; ++u) {
            for (int b = 0; b < plan.blocks(); ++b) {
                const std::vector<int> read = indices_in(plan.inputs[u], b);
                const int first = read.empty() ? 0 : read.front();
                EXPECT_EQ(read, range(first, read.size())) << "unit " << u << " block " << b;
            }
        }
    });
}

TEST(StagePlan, OutputsAreASuffixOfEachBlock) {
    for_each_plan([](const StagePlan &plan) {
        for (int b = 0; b < plan.blocks(); ++b) {
            const std::vector<int> alive = indices_in(plan.outputs, b);
            EXPECT_EQ(alive, range(plan.branch_channels - int(alive.size()), alive.size())) << "block " << b;
        }
    });
}

/// A branch's output whose channels carry labels: where the plan stores them, as block * c + index.
reference::Tensor labelled_block(const StagePlan &plan, int block) {
    const int c = plan.branch_channels;
    reference::Tensor t(c, 1, 1);
    for (int j = 0; j < c; ++j) t.at(j, 0, 0) = block * c + plan.index_of[block][j];
    return t;
}

std::vector<double> labels(const StagePlan &plan, const std::vector<Slot> &slots) {
    std::vector<double> all;
    for (const Slot &s : slots) all.push_back(s.block * plan.branch_channels + s.index);
    return all;
}

TEST(StagePlan, EqualsSplittingConcatenatingAndShuffling) {
    for_each_plan([](const StagePlan &plan) {
        using namespace reference;
        Tensor x = shuffle(concat(labelled_block(plan, 0), labelled_block(plan, 1)));
        for (int u = 1; u < plan.units; ++u) {
            const auto [x1, x2] = split(x);
            EXPECT_EQ(labels(plan, plan.inputs[u]), x2.data) << "unit " << u;
            x = shuffle(concat(x1, labelled_block(plan, u + 1)));
        }
        EXPECT_EQ(labels(plan, plan.outputs), x.data);
    });
}

TEST(StagePlan, ByHand) {
    EXPECT_EQ(make_stage_plan(1, 1).outputs, (std::vector<Slot>{{0, 0}, {1, 0}}));
    // Positions after unit 0: a0 b0 a1 b1 a2 b2; unit 1 reads b1 a2 b2, which are stored first in their blocks.
    const StagePlan plan = make_stage_plan(3, 2);
    EXPECT_EQ(plan.inputs[1], (std::vector<Slot>{{1, 0}, {0, 0}, {1, 1}}));
    EXPECT_EQ(plan.outputs, (std::vector<Slot>{{0, 1}, {2, 0}, {1, 2}, {2, 1}, {0, 2}, {2, 2}}));
}

TEST(StagePlan, MemoryOrderSortsSlots) {
    for_each_plan([](const StagePlan &plan) {
        const std::vector<int> order = memory_order(plan.outputs);
        std::vector<int> sorted_order = order;
        std::ranges::sort(sorted_order);
        EXPECT_EQ(sorted_order, range(0, plan.outputs.size()));
        for (size_t i = 1; i < order.size(); ++i) EXPECT_LT(plan.outputs[order[i - 1]], plan.outputs[order[i]]);
    });
    EXPECT_EQ(memory_order(dense_slots(5)), range(0, 5));
    EXPECT_EQ(memory_order({{1, 0}, {0, 7}, {0, 2}}), (std::vector<int>{2, 1, 0}));
}

TEST(StagePlan, SummationOrderStartsWithFours) {
    for_each_plan([](const StagePlan &plan) {
        const int fours = basic_fours(plan);
        for (int u = 1; u < plan.units; ++u) {
            const std::vector<Slot> &slots = plan.inputs[u];
            EXPECT_LE(fours, count_fours(slots));
            const std::vector<int> order = summation_order(slots, fours);
            std::vector<int> sorted = order;
            std::ranges::sort(sorted);
            EXPECT_EQ(sorted, range(0, slots.size())) << "unit " << u;
            for (int i = 0; i < fours * kFour; ++i) {
                const Slot first = slots[order[i / kFour * kFour]];
                EXPECT_EQ(slots[order[i]], (Slot{first.block, first.index + i % kFour})) << "unit " << u;
            }
        }
    });
    // Side by side are 0 to 4 and 6 to 9 of block 0, and 0 to 2 of block 1: fours at 0 and 6.
    const std::vector<Slot> slots = {{0, 8}, {0, 0}, {0, 1}, {1, 2}, {0, 2}, {0, 3},
                                     {0, 4}, {0, 6}, {0, 7}, {1, 0}, {0, 9}, {1, 1}};
    EXPECT_EQ(count_fours(slots), 2);
    EXPECT_EQ(summation_order(slots, 2), (std::vector<int>{1, 2, 4, 5, 7, 8, 0, 10, 6, 9, 11, 3}));
    EXPECT_EQ(summation_order(slots, 1), (std::vector<int>{1, 2, 4, 5, 6, 7, 8, 0, 10, 9, 11, 3}));
    EXPECT_EQ(summation_order(slots, 0), memory_order(slots));
    EXPECT_EQ(count_fours({{0, 0}, {0, 1}, {0, 2}}), 0);
}

// layout.h

constexpr VectorUnit kWide = {.vec = 16, .wide_tiles = true};

struct PartsCase {
    int channels;
    VectorUnit machine;
    std::vector<ChannelPart> parts;
};

TEST(Layout, ChannelPartsCoverTheChannels) {
    const PartsCase rows[] = {
        {64, {16}, {{0, 64, 16}}},
        {64, {4}, {{0, 64, 16}}},
        {58, {16}, {{0, 64, 16}}},
        {58, {8}, {{0, 64, 16}}},
        {58, {4}, {{0, 48, 16}, {48, 12, 4}}},  // Three vectors of four, not sixteen lanes.
        {56, {16}, {{0, 48, 16}, {48, 8, 8}}},
        {56, {4}, {{0, 48, 16}, {48, 8, 8}}},
        {116, {16}, {{0, 112, 16}, {112, 4, 4}}},
        {61, {4}, {{0, 64, 16}}},
        {7, {16}, {{0, 8, 8}}},
        {11, {16}, {{0, 16, 16}}},
        {11, {4}, {{0, 12, 4}}},
        {1, {4}, {{0, 4, 4}}},
        {1, kWide, {{0, 16, 16}}},
        {24, kWide, {{0, 32, 16}}},
        {112, kWide, {{0, 48, 16}, {48, 64, 16}}},  // Seven vectors: one tile of three and two of two.
        {116, kWide, {{0, 128, 16}}},
        {176, kWide, {{0, 144, 16}, {144, 32, 16}}},
        {232, kWide, {{0, 240, 16}}},
        {488, kWide, {{0, 432, 16}, {432, 64, 16}}},
    };
    for (const PartsCase &row : rows) {
        SCOPED_TRACE(std::to_string(row.channels) + " channels, vectors of " + std::to_string(row.machine.vec));
        const std::vector<ChannelPart> found = channel_parts(row.channels, 16, row.machine);
        ASSERT_EQ(found.size(), row.parts.size());
        for (size_t i = 0; i < found.size(); ++i) {
            EXPECT_EQ(found[i].first, row.parts[i].first);
            EXPECT_EQ(found[i].lanes, row.parts[i].lanes);
            EXPECT_EQ(found[i].vec, row.parts[i].vec);
        }
    }
}

TEST(Layout, WideTilesDivideTheirParts) {
    for (int channels = 17; channels <= 2048; ++channels) {
        int lanes = 0;
        for (const ChannelPart &part : channel_parts(channels, 16, kWide)) {
            EXPECT_EQ(part.first, lanes) << channels;
            EXPECT_EQ(part.vec, 16) << channels;
            const int vectors = part.lanes / 16;
            EXPECT_TRUE(vectors % 2 == 0 || vectors % 3 == 0) << channels << ": " << vectors;
            lanes += part.lanes;
        }
        EXPECT_EQ(lanes, round_up(channels, 16)) << "a block has no room for more";
    }
}

/// Floats [begin, end) of a blob or of the arena.
struct Section {
    std::string name;
    int64_t begin, size;
    int64_t end() const { return begin + size; }
};

/// `sections`, in order, are aligned to 64 bytes, do not overlap and end by `size`.
void expect_sections(const std::vector<Section> &sections, int64_t start, int64_t size) {
    int64_t at = start;
    for (const Section &s : sections) {
        EXPECT_EQ(s.begin * sizeof(float) % 64, 0U) << s.name;
        EXPECT_GE(s.begin, at) << s.name;
        at = s.end();
    }
    EXPECT_LE(at, size);
    EXPECT_LT(size - at, kLineFloats) << "more than alignment needs";
    EXPECT_EQ(size * sizeof(float) % 64, 0U);
}

/// Calls index(lane, i) for all lanes and i: it must hit each float of the section exactly once, neighbouring lanes of
/// a vector side by side.
template <typename Index>
void expect_bijection(const Section &section, int lanes, int depth, int vec, const Index &index) {
    ASSERT_EQ(section.size, int64_t{lanes} * depth);
    std::vector<bool> seen(section.size);
    for (int lane = 0; lane < lanes; ++lane) {
        for (int i = 0; i < depth; ++i) {
            const int64_t at = index(lane, i) - section.begin;
            ASSERT_TRUE(at >= 0 && at < section.size) << section.name;
            ASSERT_FALSE(seen[at]) << section.name;
            seen[at] = true;
            if (lane % vec == 0) {
                ASSERT_EQ(at % vec, 0) << section.name << ": vector loads are aligned";
            } else {
                ASSERT_EQ(index(lane, i), index(lane - 1, i) + 1) << section.name;
            }
        }
    }
}

std::vector<Section> sections(const std::string &name, const PointwiseLayout &l) {
    return {{name + ".bias", l.bias, l.lanes}, {name + ".weights", l.weights, int64_t{l.lanes} * l.k}};
}

std::vector<Section> sections(const std::string &name, const WindowLayout &l) {
    return {{name + ".bias", l.bias, l.lanes}, {name + ".weights", l.weights, int64_t{l.lanes} * l.taps}};
}

std::vector<Section> operator+(std::vector<Section> a, const std::vector<Section> &b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

void expect_layout(const PointwiseLayout &l, int start, int k, int channels, int vec) {
    EXPECT_EQ(l.vec, vec);
    EXPECT_EQ(l.k, k);
    EXPECT_EQ(l.lanes, round_up(channels, vec));
    const auto parts = sections("pointwise", l);
    expect_sections(parts, start, l.end());
    expect_bijection(parts[1], l.lanes, l.k, vec, [&](int lane, int i) { return l.weight_index(lane, i); });
}

void expect_layout(const WindowLayout &l, int start, int taps, int channels, int vec) {
    EXPECT_EQ(l.vec, vec);
    EXPECT_EQ(l.taps, taps);
    EXPECT_EQ(l.lanes, round_up(channels, vec));
    const auto parts = sections("window", l);
    expect_sections(parts, start, l.end());
    expect_bijection(parts[1], l.lanes, l.taps, vec, [&](int lane, int tap) { return l.weight_index(lane, tap); });
}

/// Runs `check` for every network and vector length.
void for_each_layout(const std::function<void(const Network &, int vec)> &check) {
    for (const Network &n : all_networks()) {
        for (const int vec : kVectors) {
            SCOPED_TRACE(std::string(n.name) + ", vec = " + std::to_string(vec));
            check(n, vec);
        }
    }
}

TEST(Layout, WeightsOfSingleLayers) {
    for (const int vec : kVectors) {
        for (const int channels : {1, 3, 4, 7, 8, 16, 17, 58, 61}) {
            for (const int depth : {1, 2, 9, 27, 61}) {
                for (const int start : {0, 16, 160}) {
                    expect_layout(pointwise_layout(start, depth, channels, vec), start, depth, channels, vec);
                    expect_layout(window_layout(start, depth, channels, vec), start, depth, channels, vec);
                }
            }
        }
    }
}

TEST(Layout, StemAndHead) {
    for_each_layout([](const Network &n, int vec) {
        expect_layout(stem_layout(n, vec), 0, 27, n.stem_channels, vec);
        expect_layout(conv5_layout(n, vec), 0, n.stage_channels[2], n.conv5_channels, vec);
        for (const int classes : {1, 10, 1000}) {
            expect_layout(fc_layout(n, classes, vec), 0, n.conv5_channels, classes, kFcPanels * vec);
        }
    });
}

TEST(Layout, Branches) {
    for_each_layout([](const Network &n, int vec) {
        for (int number = 2; number <= 4; ++number) {
            const StageShape s = stage_shape(n, kCrop, number);
            const int c = s.branch_channels;
            for (const int k : {s.in_channels, c}) {
                const Branch2Layout b2 = branch2_layout(k, c, vec);
                expect_sections(sections("pw1", b2.pw1) + sections("dw", b2.dw) + sections("pw2", b2.pw2), 0,
                                b2.size());
                expect_layout(b2.pw1, 0, k, c, vec);
                expect_layout(b2.dw, b2.pw1.end(), kTaps, c, vec);
                expect_layout(b2.pw2, b2.dw.end(), c, c, vec);
            }
            const int live = int(live_vectors(stage_input(n, kCrop, number, vec).slots, vec).size());
            const Branch1Layout b1 = branch1_layout(live, s.in_channels, c, vec);
            expect_sections(sections("dw", b1.dw) + sections("pw", b1.pw), 0, b1.size());
            expect_layout(b1.dw, 0, kTaps, live * vec, vec);
            expect_layout(b1.pw, b1.dw.end(), s.in_channels, c, vec);
            EXPECT_EQ(b1.vectors(), live);
            EXPECT_EQ(b1.table_size(), live + s.in_channels);
        }
    });
}

TEST(Layout, LiveVectorsCoverEverySlotExactlyOnce) {
    for_each_layout([](const Network &n, int vec) {
        for (int number = 2; number <= 5; ++number) {
            const StageInput in = stage_input(n, kCrop, number, vec);
            const std::vector<Slot> vectors = live_vectors(in.slots, vec);
            int covered = 0;
            for (const Slot &v : vectors) {
                EXPECT_EQ(v.index % vec, 0);
                EXPECT_LE(v.index + vec, in.block.lanes());
                const auto inside = [&](const Slot &s) {
                    return s.block == v.block && v.index <= s.index && s.index < v.index + vec;
                };
                const auto held = std::ranges::count_if(in.slots, inside);
                EXPECT_GT(held, 0) << "no slot in vector";
                covered += int(held);
            }
            EXPECT_EQ(covered, int(in.slots.size()));
            EXPECT_EQ(std::set<Slot>(vectors.begin(), vectors.end()).size(), vectors.size());
            EXPECT_TRUE(std::ranges::is_sorted(vectors));
        }
    });
}

TEST(Layout, StageInputIsTheStageBeforesOutput) {
    for_each_layout([](const Network &n, int vec) {
        for (const Size size : kSizes) {
            const StageInput stem = stage_input(n, size, 2, vec);
            EXPECT_EQ(stem.slots, dense_slots(n.stem_channels));
            EXPECT_EQ(stem.block.pixels, stem_size(size).pixels());
            for (int number = 3; number <= 5; ++number) {
                const StageShape before = stage_shape(n, size, number - 1);
                const StageInput in = stage_input(n, size, number, vec);
                EXPECT_EQ(in.slots, make_stage_plan(before.branch_channels, before.units).outputs);
                EXPECT_EQ(int(in.slots.size()), n.stage_channels[number - 3]);
                EXPECT_EQ(in.block.pixels, before.out.pixels());
                EXPECT_EQ(in.block.blocks, before.units + 1);
            }
            EXPECT_EQ(head_input(n, size, vec).slots, stage_input(n, size, 5, vec).slots);
        }
    });
}

TEST(Layout, BlocksHoldEveryChannelOfEveryPixelOnce) {
    for (const BlockLayout &b :
         {stage_block(stage_shape(kTestNetworks[0], {64, 48}, 2), 8),
          stage_block(stage_shape(kTestNetworks[1], {32, 32}, 4), 4), stem_block(kTestNetworks[2], {33, 47}, 16)}) {
        EXPECT_EQ(b.block_stride() * sizeof(float) % 64, 0U);
        EXPECT_EQ(b.lanes() % b.vec, 0);
        EXPECT_GE(b.lanes(), b.channels);
        std::vector<bool> seen(b.size());
        for (int block = 0; block < b.blocks; ++block) {
            for (int channel = 0; channel < b.channels; ++channel) {
                for (int pixel = 0; pixel < b.pixels; ++pixel) {
                    const size_t at = b.offset({block, channel}) + size_t(pixel) * b.lanes();
                    ASSERT_LT(at, seen.size());
                    ASSERT_FALSE(seen[at]);
                    seen[at] = true;
                }
            }
        }
    }
}

TEST(Layout, ArenaTensorsDoNotOverlap) {
    for_each_layout([](const Network &n, int vec) {
        for (const Size size : kSizes) {
            const ArenaLayout a = arena_layout(n, size, vec);
            std::vector<Section> tensors = {{"stem", a.stem, stem_block(n, size, vec).size()}};
            for (int s = 0; s < kStages; ++s) {
                const BlockLayout block = stage_block(stage_shape(n, size, s + 2), vec);
                tensors.push_back({"stage", a.stage[s], block.size()});
            }
            const int lanes = round_up(n.conv5_channels, vec);
            tensors.push_back({"conv5", a.conv5, int64_t{head_size(n, size).pixels()} * lanes});
            EXPECT_GE(pooled_stride(n), lanes) << "conv5_pool writes whole vectors";
            tensors.push_back({"pooled", a.pooled, int64_t{kImageGroup} * pooled_stride(n)});
            expect_sections(tensors, 0, a.size);
        }
    });
}

TEST(Layout, OffsetsOfTheLargestInputFitInInt) {
    const Size largest{kMaxInput, kMaxInput};
    for_each_layout([&](const Network &n, int vec) {
        const auto floats = [&](Size size, int channels) { return int64_t{size.pixels()} * round_up(channels, vec); };
        int64_t at_least = floats(stem_size(largest), n.stem_channels);
        for (int number = 2; number <= 4; ++number) {
            const StageShape s = stage_shape(n, largest, number);
            at_least += (s.units + 1) * floats(s.out, s.branch_channels);
        }
        at_least += floats(head_size(n, largest), n.conv5_channels);
        EXPECT_GE(arena_layout(n, largest, vec).size, at_least);
        EXPECT_LE(at_least, std::numeric_limits<int>::max());
    });
}

}  // namespace
}  // namespace shufflenet
