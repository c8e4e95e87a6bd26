#include "kernel.h"

#include <algorithm>
#include <cctype>

namespace shufflenet::networks {

namespace {

/// Appends "_" and what follows; a size is "28x28", a window "k3s2", or "k3x5s2x1p1x2" where it is not square().
class Key {
  public:
    explicit Key(std::string_view kind) : text_(kind) {}
    Key &add(const std::string &part) {
        text_ += "_" + part;
        return *this;
    }
    Key &add(const char *name, int value, int unless) {
        return value == unless ? *this : add(name + std::to_string(value));
    }
    Key &add(Size size) { return add(text(size)); }
    Key &add(const char *name, const Window &w) {
        const int side = w.kernel.height, stride = w.stride.height;
        if (w == square(side, stride)) return add(name + std::to_string(side) + "s" + std::to_string(stride));
        return add(name + text(w.kernel) + "s" + text(w.stride) + "p" + text(w.padding));
    }
    /// As in its text, without what no identifier has: "leaky_relu_0p1".
    Key &add(const Activation &activation) {
        std::string all = to_string(activation);
        for (char &letter : all) {
            if (std::isalnum(static_cast<unsigned char>(letter)) == 0) {
                letter = letter == '.' ? 'p' : letter == '-' ? 'm' : '_';
            }
        }
        return add(all);
    }
    std::string take() { return std::move(text_); }

  private:
    static std::string text(Size size) { return std::to_string(size.height) + "x" + std::to_string(size.width); }
    std::string text_;
};

std::string_view name_of(KernelKind kind) {
    switch (kind) {
    case KernelKind::kStem:
        return "stem";
    case KernelKind::kUnit:
        return "unit";
    case KernelKind::kPointwise:
        return "pointwise";
    case KernelKind::kPooledPointwise:
        return "pooled_pointwise";
    case KernelKind::kConvolution:
        return "convolution";
    case KernelKind::kDepthwise:
        return "depthwise";
    case KernelKind::kMaxPool:
        return "max_pool";
    case KernelKind::kAveragePool:
        return "average_pool";
    case KernelKind::kGlobalPool:
        return "global_pool";
    case KernelKind::kAdd:
        return "add";
    case KernelKind::kResize:
        return "resize";
    case KernelKind::kSoftmax:
        return "softmax";
    case KernelKind::kActivation:
        return "activation";
    case KernelKind::kCopy:
        return "copy";
    case KernelKind::kLinear:
        break;
    }
    return "linear";
}

/// "nearest_asymmetric_floor", "bilinear_half"
std::string text(const Resize &resize) {
    constexpr std::string_view kCoordinates[] = {"half", "asymmetric", "corners"};
    constexpr std::string_view kRoundings[] = {"floor", "prefer_floor", "prefer_ceil", "ceil"};
    const std::string coordinates(kCoordinates[static_cast<size_t>(resize.coordinates)]);
    if (resize.mode == Resize::Mode::kBilinear) return "bilinear_" + coordinates;
    return "nearest_" + coordinates + "_" + std::string(kRoundings[static_cast<size_t>(resize.rounding)]);
}

/// The window that goes without saying.
Window usual_window(KernelKind kind) {
    switch (kind) {
    case KernelKind::kStem:
        return square(3, 2);
    case KernelKind::kUnit:
        return square(3);
    default:
        return {};
    }
}

/// The output size that goes without saying.
Size usual_out(const Kernel &kernel) {
    switch (kernel.kind) {
    case KernelKind::kPooledPointwise:
    case KernelKind::kGlobalPool:
    case KernelKind::kLinear:
        return {1, 1};
    default:
        break;
    }
    const Size filtered = window_size(kernel.window, kernel.in);
    return kernel.pools() ? window_size(kernel.pool, filtered) : filtered;
}

/// Summands of a unit's last convolution, of one group.
int last_rows(const Kernel &kernel) { return kernel.ordered ? kernel.last_summands : kernel.middle; }

std::vector<WeightLayout> unit_layouts(const Kernel &kernel) {
    std::vector<WeightLayout> layouts;
    int at = 0;
    const auto append = [&](int rows, int lanes, int groups) {
        layouts.push_back(weight_layout(at, kPlane, rows, lanes, groups));
        at = layouts.back().end();
    };
    if (kernel.expands()) append(kernel.summands(), kernel.middle, kernel.middle_groups);
    append(kernel.window.kernel.pixels(), kernel.middle, kernel.middle_groups);
    append(last_rows(kernel), kernel.lanes, kernel.groups);
    return layouts;
}

/// Whether a unit's depthwise outputs, and a panel of what is before them, stay in a thread's scratch memory. What does
/// not is computed in strips, whose layers two parts cannot share.
bool whole_in_scratch(const Kernel &kernel) {
    const int lanes = kernel.middle_planes() * kPlane * kernel.middle_groups;
    if (!kernel.expands()) return fits_scratch(unit_bytes({}, kernel.out, lanes, 0));
    return fits_scratch(unit_bytes(kernel.in, kernel.out, lanes, kPlane));
}

}  // namespace

std::string key(const Kernel &kernel) {
    Key key(name_of(kernel.kind));
    key.add(kernel.in);
    key.add(kernel.in_planes > 0 && kernel.in_channels == 0 ? "p" + std::to_string(kernel.in_planes)
                                                            : std::to_string(kernel.in_channels));
    if (kernel.kind == KernelKind::kUnit) key.add(std::to_string(kernel.middle));
    key.add(std::to_string(kernel.lanes));
    if (kernel.kind == KernelKind::kUnit) key.add(kernel.first).add(kernel.second);
    key.add(kernel.activation);
    if (kernel.window != usual_window(kernel.kind)) key.add("k", kernel.window);
    if (kernel.pools()) key.add("pool", kernel.pool);
    if (kernel.out != usual_out(kernel)) key.add(kernel.out);
    key.add("g", kernel.middle_groups, 1).add("h", kernel.groups, 1);
    if (kernel.ordered) key.add("o" + std::to_string(kernel.last_summands));
    if (kernel.in_channels > 0) key.add("row", kernel.in_planes, 0);
    // Not the quads: they follow from where channels happen to lie, and tuned numbers fit all the same.
    if (kernel.shortcut) key.add("shortcut");
    if (!kernel.counts_padding) key.add("inside");
    if (kernel.kind == KernelKind::kResize) key.add(text(kernel.resize));
    if (kernel.element == Element::kS16) key.add("s16");
    return key.take();
}

std::vector<WeightLayout> weight_layouts(const Kernel &kernel) {
    const int taps = kernel.window.kernel.pixels();
    switch (kernel.kind) {
    case KernelKind::kStem:
        return {weight_layout(0, kPlane, kernel.in_channels * taps, kernel.lanes, 1)};
    case KernelKind::kUnit:
        return unit_layouts(kernel);
    case KernelKind::kPointwise:
    case KernelKind::kPooledPointwise:
        return {weight_layout(0, kPlane, kernel.summands(), kernel.lanes, kernel.groups)};
    case KernelKind::kConvolution:
        return {weight_layout(0, kPlane, kernel.summands() * taps, kernel.lanes, kernel.groups)};
    case KernelKind::kDepthwise:
        return {weight_layout(0, kPlane, taps, kernel.lanes, 1)};
    case KernelKind::kLinear:
        return {linear_layout(kernel.in_channels, kernel.lanes, kernel.element)};
    default:
        return {};
    }
}

int weight_floats(const Kernel &kernel) {
    const std::vector<WeightLayout> layouts = weight_layouts(kernel);
    return layouts.empty() ? 0 : layouts.back().end();
}

TableLayout table_layout(const Kernel &kernel) {
    TableLayout layout;
    switch (kernel.kind) {
    case KernelKind::kStem:
        break;
    case KernelKind::kUnit:
        layout.planes = kernel.expands() ? 0 : kernel.in_planes;
        layout.channels = kernel.expands() ? kernel.in_channels : 0;
        layout.lanes = kernel.ordered ? kernel.groups * kernel.last_summands : 0;
        break;
    case KernelKind::kPointwise:
    case KernelKind::kPooledPointwise:
    case KernelKind::kConvolution:
        layout.channels = kernel.in_channels;
        break;
    case KernelKind::kSoftmax:
        layout.channels = kernel.planes() * kPlane;
        break;
    case KernelKind::kCopy:
        layout.planes = kernel.in_planes;
        layout.channels = kernel.in_planes > 0 ? 0 : kernel.lanes;
        break;
    case KernelKind::kLinear:
        layout.channels = kernel.ordered ? kernel.in_channels : 0;
        break;
    default:
        layout.planes = kernel.in_planes;
        break;
    }
    if (kernel.shortcut || kernel.kind == KernelKind::kAdd) layout.addends = kernel.groups * kernel.planes();
    return layout;
}

std::vector<ChannelPart> out_parts(const Kernel &kernel, VectorUnit machine) {
    switch (kernel.kind) {
    case KernelKind::kStem:
    case KernelKind::kConvolution:
        // Whole vectors are no faster here: a stem's 24 channels would be two.
        return channel_parts(kernel.lanes, kPlane, machine.vec);
    case KernelKind::kPointwise:
        return kernel.lanes % kPlane == 0 ? whole_vectors(kernel.lanes, kPlane)
                                          : channel_parts(kernel.lanes, kPlane, machine.vec);
    case KernelKind::kUnit:
        if (whole_in_scratch(kernel)) return channel_parts(kernel.lanes, kPlane, machine);
        break;
    default:
        break;
    }
    return whole_vectors(kernel.lanes, kPlane);
}

std::vector<ChannelPart> middle_parts(const Kernel &kernel, VectorUnit machine) {
    // Read through the table, lanes are in one part.
    const bool one = kernel.ordered || kernel.groups > 1 || kernel.middle_groups > 1 || !whole_in_scratch(kernel);
    return one ? whole_vectors(kernel.middle, kPlane) : channel_parts(kernel.middle, kPlane, machine);
}

}  // namespace shufflenet::networks
