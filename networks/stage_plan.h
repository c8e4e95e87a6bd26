// Where every channel of a stage lives, so that concat, channel shuffle and channel split move no bytes.
//
// torchvision's basic unit splits its input into halves x1, x2, and outputs shuffle(concat(x1, branch2(x2))):
// position 2i is x1[i], position 2i+1 is branch2(x2)[i]. Nothing is computed on x1, so nothing need be moved:
// each branch writes its c outputs once, to a block of its own, and later units read channels from where they
// are, through a table of offsets. Replaying the permutations at compile time gives the tables.
//
// A channel's residence time is the number of units until a branch consumes it. About half of a block's channels
// are consumed by the next unit, a quarter by the one after, and so on. A block stores its channels in order of
// residence time, so that what one unit reads of a block is one contiguous run, and what is still alive at the
// end of the stage is a suffix.
#pragma once

#include <algorithm>
#include <vector>

#include "network.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// A channel's place: block (0: branch 1 of the downsampling unit, u+1: branch 2 of unit u) and index within it.
struct Slot {
    int block, index;
    constexpr bool operator==(const Slot &) const = default;
    constexpr auto operator<=>(const Slot &) const = default;
};

/// The channel schedule of one stage. `constexpr` throughout; vectors because sizes differ by stage.
struct StagePlan {
    int branch_channels = 0;
    int units = 0;
    /// index_of[block][j]: where the block stores its branch's output channel j.
    std::vector<std::vector<int>> index_of;
    /// residence[block][j]: units until output j is consumed; units + 1 and above: alive at the stage's end.
    std::vector<std::vector<int>> residence;
    /// inputs[u] for u >= 1: the slot of each input channel k (canonical order) of unit u's branch 2.
    std::vector<std::vector<Slot>> inputs;
    /// outputs: the slot of each of the stage's 2c output channels, canonical order.
    std::vector<Slot> outputs;

    constexpr int blocks() const { return units + 1; }
};

namespace detail {

/// Block and canonical output channel of each of the 2c positions after `unit` units of the stage.
constexpr std::vector<Slot> positions_after(int c, int unit) {
    std::vector<Slot> where(2 * c);
    for (int i = 0; i < c; ++i) {
        where[2 * i] = {0, i};
        where[2 * i + 1] = {1, i};
    }
    for (int u = 1; u < unit; ++u) {
        std::vector<Slot> next(2 * c);
        for (int i = 0; i < c; ++i) {
            next[2 * i] = where[i];
            next[2 * i + 1] = {u + 1, i};
        }
        where = next;
    }
    return where;
}

}  // namespace detail

constexpr StagePlan make_stage_plan(int branch_channels, int units) {
    const int c = branch_channels;
    StagePlan plan;
    plan.branch_channels = c;
    plan.units = units;
    const int never = 2 * units + 1;
    plan.residence.assign(units + 1, std::vector<int>(c, never));

    std::vector<std::vector<Slot>> consumed(units);
    std::vector<Slot> where = detail::positions_after(c, 1);
    for (int u = 1; u < units; ++u) {
        for (int i = 0; i < c; ++i) {
            const Slot s = where[c + i];
            consumed[u].push_back(s);
            plan.residence[s.block][s.index] = u - std::max(0, s.block - 1);
        }
        where = detail::positions_after(c, u + 1);
    }

    plan.index_of.assign(units + 1, std::vector<int>(c));
    for (int b = 0; b <= units; ++b) {
        int next = 0;
        for (int r = 0; r <= never; ++r) {
            for (int j = 0; j < c; ++j) {
                if (plan.residence[b][j] == r) plan.index_of[b][j] = next++;
            }
        }
    }

    const auto stored = [&](Slot s) { return Slot{s.block, plan.index_of[s.block][s.index]}; };
    plan.inputs.resize(units);
    for (int u = 1; u < units; ++u) {
        for (const Slot &s : consumed[u]) plan.inputs[u].push_back(stored(s));
    }
    for (const Slot &s : where) plan.outputs.push_back(stored(s));
    return plan;
}

/// The trivial plan of a tensor that is one block in canonical order (the stem's output).
constexpr std::vector<Slot> dense_slots(int channels) {
    std::vector<Slot> slots;
    for (int i = 0; i < channels; ++i) slots.push_back({0, i});
    return slots;
}

/// The permutation that sorts `slots` by place: order[i] is the canonical channel at the i-th smallest slot.
constexpr std::vector<int> memory_order(const std::vector<Slot> &slots) {
    std::vector<int> order(slots.size());
    for (int i = 0; i < static_cast<int>(order.size()); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](int a, int b) { return slots[a] < slots[b]; });
    return order;
}

/// Neighbours that one 128-bit vector holds: what a processor that multiplies by a lane of a vector wants to load.
inline constexpr int kFour = 4;

/// The order in which a branch sums over its input channels: first `fours` times four that lie side by side, then all
/// others; both walk memory forwards. Less than `fours` where there are not so many.
constexpr std::vector<int> summation_order(const std::vector<Slot> &slots, int fours) {
    const std::vector<int> sorted = memory_order(slots);
    const auto count = static_cast<int>(sorted.size());
    std::vector<int> order, others;
    for (int i = 0; i < count;) {
        const Slot first = slots[sorted[i]];
        const bool four = static_cast<int>(order.size()) < fours * kFour && i + kFour <= count &&
                          slots[sorted[i + kFour - 1]] == Slot{first.block, first.index + kFour - 1};
        for (int end = i + (four ? kFour : 1); i < end; ++i) (four ? order : others).push_back(sorted[i]);
    }
    order.insert(order.end(), others.begin(), others.end());
    return order;
}

/// The most fours that `slots` have.
constexpr int count_fours(const std::vector<Slot> &slots) {
    const auto all = static_cast<int>(slots.size()) / kFour;
    const std::vector<int> order = summation_order(slots, all);
    int fours = 0;
    for (; fours < all; ++fours) {
        const Slot first = slots[order[fours * kFour]];
        if (slots[order[fours * kFour + kFour - 1]] != Slot{first.block, first.index + kFour - 1}) break;
    }
    return fours;
}

}  // namespace shufflenet
