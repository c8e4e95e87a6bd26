// How one layer's weights lie in what a kernel reads: what the packer writes and generated code reads, whatever the
// instruction set and tuning.
#pragma once

#include "panels.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Types of packed weights.
enum class Element : uint8_t { kF32, kS16 };

constexpr int element_bytes(Element element) { return element == Element::kS16 ? 2 : 4; }

/// One layer's weights, group after group, `stride` floats apart: bias[lanes] and, of integers, factor[lanes], floats;
/// then weights[lanes / panel][rows / interleave][panel][interleave], elements. Offsets are those of the first group. A
/// weight is its element, of integers times the lane's factor.
struct WeightLayout {
    int panel = kPlane, rows = 0, lanes = 0, groups = 1;
    int bias = 0, weights = 0, stride = 0;  ///< Factors, if there are any, follow the biases.
    Element element = Element::kF32;
    /// Rows that lie side by side, so that an instruction sums their products; 1 for floats.
    int interleave = 1;

    constexpr int end() const { return bias + groups * stride; }
    constexpr bool has_factors() const { return element == Element::kS16; }
    /// Floats of a lane before its weights.
    constexpr int constants() const { return has_factors() ? 2 : 1; }
    /// Elements in the memory of a float.
    constexpr int in_float() const { return static_cast<int>(sizeof(float)) / element_bytes(element); }
    constexpr int padded_rows() const { return round_up(rows, interleave); }
    /// A lane's first row, in elements from the beginning of what the kernel reads.
    constexpr int first_row(int group, int lane) const {
        return (weights + group * stride) * in_float() + lane / panel * padded_rows() * panel +
               lane % panel * interleave;
    }
    /// Elements from a lane's first row to another one.
    constexpr int row_offset(int row) const {
        return interleave == 1 ? row * panel : row / interleave * interleave * panel + row % interleave;
    }
    constexpr int index(int group, int lane, int row) const { return first_row(group, lane) + row_offset(row); }
};

/// From float `start` on.
constexpr WeightLayout weight_layout(int start, int panel, int rows, int lanes, int groups,
                                     Element element = Element::kF32, int interleave = 1) {
    WeightLayout layout{panel, rows, round_up(lanes, panel), groups, start, 0, 0, element, interleave};
    const int constants = layout.lanes * layout.constants();
    layout.weights = start + constants;
    const int elements = layout.lanes * layout.padded_rows();
    layout.stride = constants + round_up(elements, kLineFloats * layout.in_float()) / layout.in_float();
    return layout;
}

/// A last linear layer's, with so many classes: panels of several vectors side by side.
constexpr WeightLayout linear_layout(int rows, int classes, Element element, int interleave = 1) {
    return weight_layout(0, kPanelFloats * kFcPanels, rows, classes, 1, element, interleave);
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
