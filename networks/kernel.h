// A kernel as data: what one generated function computes, and how its operands lie in memory. A generator turns it into
// code, the packer fills the weights that it reads; calls that have equal kernels share one.
//
// Activations lie in planes: vectors of kPlane channels, [pixel][kPlane] floats each. Where a kernel reads channels one
// by one it finds them through a table, which holds the offset of each in the arena; the next pixel is kPlane floats
// further, whatever computed the channel. Where it reads whole planes the table holds their offsets. It writes planes
// side by side: [group][plane][pixel][kPlane].
#pragma once

#include <string>
#include <vector>

#include "graph.h"
#include "panels.h"
#include "weight_layout.h"

namespace shufflenet::networks {

enum class KernelKind : uint8_t {
    kStem,             ///< A convolution of the image [and a max-pool].
    kUnit,             ///< [Pointwise,] depthwise, pointwise [plus a shortcut].
    kPointwise,        ///< A pointwise convolution.
    kPooledPointwise,  ///< A pointwise convolution and the mean over its pixels.
    kConvolution,      ///< A dense convolution with a window.
    kDepthwise,        ///< A depthwise convolution of planes.
    kMaxPool,          ///< Of planes, as all that follow but the last.
    kAveragePool,
    kGlobalPool,
    kAdd,
    kResize,
    kActivation,
    /// Channels to new places: where no layer can write them where they are read. One by one, or, with `in_planes`,
    /// each plane from two runs of neighbours at most.
    kCopy,
    kSoftmax,  ///< Of channels one by one, whose table has those of its lanes, or -1.
    kLinear,   ///< Fully connected, over a group of images.
};

/// What a table's entries are, and how many k-quads they start with (see Kernel::quads).
struct Kernel {
    KernelKind kind{};
    Size in{}, out{};
    /// Channels of the image, of a stem. Otherwise the channels that a convolution reads through the table, of all
    /// groups; 0: it reads planes.
    int in_channels = 0;
    /// Planes that are read whole; of an addition and of a shortcut those of the other operand come last, not counted.
    int in_planes = 0;
    /// Of each group, the table starts with so many runs of four channels side by side in a plane.
    int quads = 0;
    /// Lanes of the depthwise convolution within a unit, of each of its groups; 0: none.
    int middle = 0;
    /// Lanes that are written, of each group.
    int lanes = 0;
    /// Groups of a unit's first convolution and so of what is between; of the last one, or the only one.
    int middle_groups = 1, groups = 1;
    /// Of a unit: whether its last convolution reads the depthwise outputs through the table, which then has their
    /// lanes. Of kLinear: whether it reads its input through the table.
    bool ordered = false;
    /// Whether the last convolution, or the only one, adds a tensor that lies as its output does, before the
    /// activation.
    bool shortcut = false;
    Window window{};      ///< Of the stem, convolution, depthwise convolution or pool.
    Window pool{{0, 0}};  ///< The max-pool of a stem; {0, 0}: none.
    bool counts_padding = true;
    Resize resize{};
    Activation first{}, second{}, activation{};  ///< Of a unit: each layer; otherwise `activation` alone.
    Element element{};                           ///< Of its weights: floats, or of kLinear integers.

    bool operator==(const Kernel &) const = default;
    auto operator<=>(const Kernel &) const = default;

    bool pools() const { return pool.kernel.pixels() > 0; }
    bool expands() const { return kind == KernelKind::kUnit && in_channels > 0 && in_planes == 0; }
    /// Summands of the first convolution, of one group.
    int summands() const { return in_channels / (expands() ? middle_groups : groups); }
    /// Summands of a unit's last convolution, of one group.
    int last_summands = 0;
    int planes() const { return planes_of(lanes); }
    /// Planes between its layers, one group.
    int middle_planes() const { return planes_of(middle); }
};

/// A name of the kernel, by which tuned numbers are found: equal for kernels that are equal but for their quads, e.g.
/// "unit_28x28_58_58_58_relu_none_relu".
std::string key(const Kernel &kernel);

/// The weights of a kernel's layers, in order: of a unit [first,] depthwise, last; otherwise one or none.
std::vector<WeightLayout> weight_layouts(const Kernel &kernel);
/// Floats of a kernel's blob, a whole number of lines.
int weight_floats(const Kernel &kernel);

/// Sections of a kernel's table, in entries, in this order.
struct TableLayout {
    int planes = 0;    ///< Offsets of planes: in_planes of them. Of a copy in runs see CopyEntry.
    int channels = 0;  ///< Offsets of channels, or, of a unit without a first convolution, none.
    int lanes = 0;     ///< Lanes of depthwise outputs: groups * last_summands, where a kernel is `ordered`.
    int addends = 0;   ///< Offsets of the other operand's planes: groups * planes().
    int first_channel() const { return planes; }
    int first_lane() const { return planes + channels; }
    int first_addend() const { return planes + channels + lanes; }
    int size() const { return planes + channels + lanes + addends; }
};
TableLayout table_layout(const Kernel &kernel);

/// Of each plane that a copy in runs writes: where its lanes come from if they are all of one run, the same of the
/// other run, and how many of them are the first one's.
enum CopyEntry { kFirstRun, kSecondRun, kFirstLanes, kCopyEntries };

/// The lanes of each group of the output as a machine computes them: one part or two, whole planes but for the last.
std::vector<ChannelPart> out_parts(const Kernel &kernel, VectorUnit machine);
/// The same of a unit's depthwise convolution and what is before it.
std::vector<ChannelPart> middle_parts(const Kernel &kernel, VectorUnit machine);

}  // namespace shufflenet::networks
