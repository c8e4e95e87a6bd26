#include "moves.h"

#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <type_traits>

namespace shufflenet::imports {

namespace {

/// Axes, sizes and the like: an attribute until some operator set, an input since then.
Dims axes_of(const Node &node, const Inputs &inputs, const char *attribute, size_t input) {
    if (input < inputs.size() && inputs[input] != nullptr) return integers_of(inputs, input).data;
    return node.integers(attribute, {});
}

/// The value with its array replaced by what `change` makes of it.
template <typename F>
Value changed(const Value &value, F change) {
    return std::visit(
        [&](const auto &in) -> Value {
            if constexpr (std::is_same_v<std::decay_t<decltype(in)>, Activations>) {
                Activations out = in;
                out.channels = change(in.channels);
                if (!in.order.empty() && out.rank() != in.rank())
                    throw Refusal("drops an axis where pixels come first");
                return out;
            } else {
                return change(in);
            }
        },
        value);
}

/// An axis of the array, not of the opaque plane behind it.
size_t movable_axis(const Value &value, int64_t axis) {
    size_t found = axis_of(axis, dims_of(value).size());
    const auto *activations = std::get_if<Activations>(&value);
    if (activations != nullptr) found = activations->own_axis(found);
    if (activations != nullptr && found >= activations->channels.dims.size()) {
        throw Refusal("takes pixels apart (axis " + std::to_string(axis) + " of shape " +
                      message::shape_text(dims_of(value)) + ")");
    }
    return found;
}

/// Whether `dims` ends with `tail`, and what stands before holds `count` elements.
bool ends_with(const Dims &dims, const Dims &tail, size_t count) {
    if (dims.size() < tail.size() || !std::equal(tail.rbegin(), tail.rend(), dims.rbegin())) return false;
    const Dims front(dims.begin(), dims.end() - static_cast<ptrdiff_t>(tail.size()));
    return tensor_bytes(front, 1) == static_cast<int64_t>(count);
}

/// How many axes of channels stand before the pixels of a tensor that has others behind them. Throws Refusal where rows
/// do not come before columns, or channels in another order.
size_t axes_before_pixels(const Activations &in) {
    const size_t axes = in.channels.dims.size(), pixels = in.pixel_axes();
    const auto first = std::ranges::find_if(in.order, [axes](size_t axis) { return axis >= axes; });
    const auto front = static_cast<size_t>(first - in.order.begin());
    std::vector<size_t> expected(in.order.size());
    for (size_t i = 0; i < expected.size(); ++i) {
        expected[i] = i < front ? i : i < front + pixels ? axes + i - front : i - pixels;
    }
    if (in.order != expected) throw Refusal("reshapes axes whose order is not known");
    return front;
}

/// The same channels with axes `dims`, of which the pixels are `count` from `at` on; nothing: they do not fit.
std::optional<Activations> with_pixels_at(const Activations &in, const Dims &dims, Plane plane, size_t at,
                                          size_t count) {
    Activations out = in;
    out.plane = plane;
    out.channels.dims.assign(dims.begin(), dims.begin() + static_cast<ptrdiff_t>(at));
    out.channels.dims.insert(out.channels.dims.end(), dims.begin() + static_cast<ptrdiff_t>(at + count), dims.end());
    if (detail::product(out.channels.dims) != static_cast<int64_t>(in.channels.data.size())) return {};
    out.order.resize(dims.size());
    for (size_t i = 0; i < dims.size(); ++i) {
        out.order[i] = i < at ? i : i < at + count ? out.channels.dims.size() + i - at : i - count;
    }
    return out;
}

/// [front channels..., pixels..., back channels...], as tensors with channels last are, to another such shape.
Value reshaped_last(const Activations &in, const Dims &dims) {
    const int64_t before = detail::product(std::span(in.channels.dims).first(axes_before_pixels(in)));
    const int64_t height = in.size.height, width = in.size.width;
    const std::pair<Plane, Dims> ways[] = {{Plane::kHeightWidth, {height, width}}, {Plane::kFlat, {height * width}}};
    for (const auto &[plane, pixels] : ways) {
        for (size_t at = 0; at + pixels.size() <= dims.size(); ++at) {
            const std::span all(dims);
            const bool same = std::ranges::equal(all.subspan(at, pixels.size()), pixels);
            if (!same || detail::product(all.first(at)) != before) continue;
            if (auto out = with_pixels_at(in, dims, plane, at, pixels.size())) return *std::move(out);
        }
    }
    throw Refusal("shape " + message::shape_text(in.dims()) + " to " + message::shape_text(dims) +
                  " does not keep every channel's pixels together");
}

Value reshaped_activations(const Activations &in, const Dims &dims) {
    if (in.pads.any()) throw Refusal("takes an image apart that a Pad made larger");
    if (!in.order.empty()) return reshaped_last(in, dims);
    const int64_t height = in.size.height, width = in.size.width;
    const size_t count = in.channels.data.size();
    const std::pair<Plane, Dims> ways[] = {
        {Plane::kHeightWidth, {height, width}}, {Plane::kFlat, {height * width}}, {Plane::kNone, {}}};
    for (const auto &[plane, tail] : ways) {
        if (plane == Plane::kNone && height * width != 1) continue;
        if (in.plane == Plane::kNone && plane != Plane::kNone) continue;
        if (!ends_with(dims, tail, count)) continue;
        Activations out = in;
        out.channels.dims.assign(dims.begin(), dims.end() - static_cast<ptrdiff_t>(tail.size()));
        out.plane = plane;
        return out;
    }
    throw Refusal("shape " + message::shape_text(in.dims()) + " to " + message::shape_text(dims) +
                  " does not keep every channel's pixels together");
}

Value reshaped(const Value &value, const Dims &dims) {
    if (const auto *activations = std::get_if<Activations>(&value)) return reshaped_activations(*activations, dims);
    return changed(value, [&dims](const auto &in) {
        if (tensor_bytes(dims, 1) != static_cast<int64_t>(in.data.size())) {
            throw Refusal("shape " + message::shape_text(in.dims) + " to " + message::shape_text(dims));
        }
        auto out = in;
        out.dims = dims;
        return out;
    });
}

std::vector<Value> reshape(const Node &node, int64_t, const Inputs &inputs) {
    const Dims from = dims_of(input_value(inputs, 0));
    Dims to = integers_of(inputs, 1).data;
    const bool keep_zero = node.integer("allowzero", 0) != 0;
    size_t open = to.size();
    for (size_t i = 0; i < to.size(); ++i) {
        if (to[i] == 0 && !keep_zero && i < from.size()) to[i] = from[i];
        if (to[i] == -1 && open == to.size()) open = i;
    }
    if (open < to.size()) {
        to[open] = 1;
        const std::optional<int64_t> rest = tensor_bytes(to, 1), all = tensor_bytes(from, 1);
        if (!rest || !all || *rest == 0 || *all % *rest != 0) {
            throw Refusal("shape " + message::shape_text(from) + " to " +
                          message::shape_text(integers_of(inputs, 1).data));
        }
        to[open] = *all / *rest;
    }
    return {reshaped(input_value(inputs, 0), to)};
}

std::vector<Value> flatten(const Node &node, int64_t, const Inputs &inputs) {
    const Dims from = dims_of(input_value(inputs, 0));
    const int64_t axis = node.integer("axis", 1);
    const size_t front = axis == static_cast<int64_t>(from.size()) ? from.size() : axis_of(axis, from.size());
    const std::span dims(from);
    return {
        reshaped(input_value(inputs, 0), {detail::product(dims.first(front)), detail::product(dims.subspan(front))})};
}

std::vector<Value> squeeze(const Node &node, int64_t, const Inputs &inputs) {
    const Dims from = dims_of(input_value(inputs, 0));
    const Dims axes = axes_of(node, inputs, "axes", 1);
    std::vector<bool> drop(from.size(), false);
    for (const int64_t axis : axes) drop[axis_of(axis, from.size())] = true;
    Dims to;
    for (size_t i = 0; i < from.size(); ++i) {
        if (axes.empty() ? from[i] == 1 : drop[i]) {
            if (from[i] != 1) throw Refusal("axis " + std::to_string(i) + " of shape " + message::shape_text(from));
        } else {
            to.push_back(from[i]);
        }
    }
    return {reshaped(input_value(inputs, 0), to)};
}

std::vector<Value> unsqueeze(const Node &node, int64_t, const Inputs &inputs) {
    const Dims from = dims_of(input_value(inputs, 0));
    const Dims axes = axes_of(node, inputs, "axes", 1);
    const size_t rank = from.size() + axes.size();
    std::vector<bool> is_new(rank, false);
    for (const int64_t axis : axes) is_new[axis_of(axis, rank)] = true;
    if (static_cast<size_t>(std::count(is_new.begin(), is_new.end(), true)) != axes.size()) {
        throw Refusal("has an axis twice");
    }
    Dims to;
    auto next = from.begin();
    for (size_t i = 0; i < rank; ++i) to.push_back(is_new[i] ? 1 : *next++);
    return {reshaped(input_value(inputs, 0), to)};
}

/// Channels are moved; where pixels are among them is noted.
Value transposed_activations(const Activations &in, const std::vector<size_t> &axes) {
    Activations out = in;
    const size_t channel_axes = in.channels.dims.size();
    std::vector<size_t> order, own;
    for (const size_t axis : axes) order.push_back(in.own_axis(axis));
    // The channels' array in the order in which its axes come.
    for (const size_t axis : order) {
        if (axis < channel_axes) own.push_back(axis);
    }
    out.channels = transposed(in.channels, std::span<const size_t>(own));
    size_t next = 0;
    for (size_t &axis : order) axis = axis < channel_axes ? next++ : axis;
    out.order = order;
    if (std::ranges::is_sorted(order)) out.order.clear();
    return out;
}

std::vector<Value> transpose(const Node &node, int64_t, const Inputs &inputs) {
    const Value &value = input_value(inputs, 0);
    const size_t rank = dims_of(value).size();
    Dims order(rank);
    std::iota(order.rbegin(), order.rend(), 0);
    order = node.integers("perm", order);
    std::vector<size_t> axes;
    for (const int64_t axis : order) axes.push_back(axis_of(axis, rank));
    std::vector<size_t> sorted = axes;
    std::sort(sorted.begin(), sorted.end());
    for (size_t i = 0; i < sorted.size(); ++i) {
        if (sorted.size() != rank || sorted[i] != i) {
            throw Refusal("perm " + message::shape_text(order) + " of a tensor of rank " + std::to_string(rank));
        }
    }
    if (const auto *activations = std::get_if<Activations>(&value)) return {transposed_activations(*activations, axes)};
    return {changed(value, [&](const auto &in) { return transposed(in, std::span<const size_t>(axes)); })};
}

std::vector<Value> gather(const Node &node, int64_t, const Inputs &inputs) {
    const Value &value = input_value(inputs, 0);
    const size_t axis = movable_axis(value, node.integer("axis", 0));
    return {changed(value, [&](const auto &in) { return gathered(in, axis, integers_of(inputs, 1)); })};
}

struct Range {
    int64_t start, end, axis, step;
};

std::vector<Range> slice_ranges(const Node &node, int64_t opset, const Inputs &inputs, size_t rank) {
    constexpr int64_t kAttributesUntil = 9;
    const bool attributes = opset <= kAttributesUntil;
    const auto list = [&](const char *name, size_t i) {
        return attributes ? node.integers(name, {}) : axes_of(node, inputs, name, i);
    };
    const Dims starts = list("starts", 1), ends = list("ends", 2);
    Dims axes = list("axes", 3), steps = attributes ? Dims{} : list("steps", 4);
    if (axes.empty()) {
        axes.resize(starts.size());
        std::iota(axes.begin(), axes.end(), 0);
    }
    if (steps.empty()) steps.assign(starts.size(), 1);
    if (ends.size() != starts.size() || axes.size() != starts.size() || steps.size() != starts.size()) {
        throw Refusal("starts, ends, axes and steps have different lengths");
    }
    std::vector<Range> ranges;
    for (size_t i = 0; i < starts.size(); ++i) {
        ranges.push_back({starts[i], ends[i], static_cast<int64_t>(axis_of(axes[i], rank)), steps[i]});
    }
    return ranges;
}

/// The places that a range of ONNX's Slice takes of an axis of `extent`.
std::vector<int64_t> places_of(const Range &range, int64_t extent) {
    const int64_t step = range.step;
    if (step == 0) throw Refusal("has a step of 0");
    const auto clamped = [extent](int64_t at, int64_t low, int64_t high) {
        return std::clamp(at < 0 ? at + extent : at, low, high);
    };
    std::vector<int64_t> places;
    if (step > 0) {
        const int64_t start = clamped(range.start, 0, extent), end = clamped(range.end, 0, extent);
        for (int64_t at = start; at < end; at += std::min(step, extent)) places.push_back(at);
    } else {
        const int64_t start = clamped(range.start, -1, extent - 1), end = clamped(range.end, -1, extent - 1);
        for (int64_t at = start; at > end; at += std::max(step, -extent)) places.push_back(at);
    }
    return places;
}

std::vector<Value> slice(const Node &node, int64_t opset, const Inputs &inputs) {
    Value value = input_value(inputs, 0);
    const Dims dims = dims_of(value);
    for (const Range &range : slice_ranges(node, opset, inputs, dims.size())) {
        const int64_t extent = dims_of(value)[range.axis];
        // Exporters write out slices that take everything, also of heights and widths.
        if (range.start == 0 && range.end >= extent && range.step == 1) continue;
        const size_t axis = movable_axis(value, range.axis);
        value = changed(value, [&](const auto &in) { return selected(in, axis, places_of(range, extent)); });
    }
    return {value};
}

std::vector<Value> split(const Node &node, int64_t, const Inputs &inputs) {
    const Value &value = input_value(inputs, 0);
    const size_t axis = movable_axis(value, node.integer("axis", 0));
    const int64_t extent = dims_of(value)[axis], parts = node.outputs();
    Dims sizes = axes_of(node, inputs, "split", 1);
    if (sizes.empty()) {
        const int64_t each = parts > 0 ? (extent + parts - 1) / parts : 0;
        for (int64_t at = 0; at < parts; ++at) sizes.push_back(std::clamp<int64_t>(extent - at * each, 0, each));
    }
    std::vector<Value> values;
    int64_t begin = 0;
    for (const int64_t size : sizes) {
        if (size < 0 || size > extent - begin) break;
        std::vector<int64_t> places(size);
        std::iota(places.begin(), places.end(), begin);
        values.push_back(changed(value, [&](const auto &in) { return selected(in, axis, places); }));
        begin += size;
    }
    if (begin != extent || static_cast<int64_t>(values.size()) != parts || values.size() != sizes.size()) {
        throw Refusal("splits " + std::to_string(extent) + " into " + message::shape_text(sizes) + " for " +
                      std::to_string(parts) + " outputs");
    }
    return values;
}

template <typename T>
Value concat_arrays(const Inputs &inputs, size_t axis) {
    std::vector<const Array<T> *> parts;
    for (const ValuePtr &input : inputs) {
        const auto *part = input != nullptr ? std::get_if<Array<T>>(input.get()) : nullptr;
        if (part == nullptr) throw Refusal("joins values of different kinds");
        parts.push_back(part);
    }
    return concatenated(parts, axis);
}

Value concat_activations(const Inputs &inputs, size_t axis) {
    const auto &first = std::get<Activations>(*inputs.front());
    std::vector<const Array<TracedChannel> *> parts;
    for (const ValuePtr &input : inputs) {
        const auto *part = input != nullptr ? std::get_if<Activations>(input.get()) : nullptr;
        if (part == nullptr) throw Refusal("joins values of different kinds");
        if (part->plane != first.plane || !(part->size == first.size) || part->order != first.order ||
            !(part->pads == first.pads)) {
            throw Refusal("joins shapes " + message::shape_text(first.dims()) + " and " +
                          message::shape_text(part->dims()));
        }
        parts.push_back(&part->channels);
    }
    Activations out = first;
    out.channels = concatenated(parts, axis);
    return out;
}

std::vector<Value> concat(const Node &node, int64_t, const Inputs &inputs) {
    const Value &first = input_value(inputs, 0);
    if (!node.has("axis")) throw Refusal("lacks attribute axis");
    const size_t axis = movable_axis(first, node.integer("axis", 0));
    if (std::holds_alternative<Activations>(first)) return {concat_activations(inputs, axis)};
    if (std::holds_alternative<Array<float>>(first)) return {concat_arrays<float>(inputs, axis)};
    return {concat_arrays<int64_t>(inputs, axis)};
}

std::vector<Value> identity(const Node &, int64_t, const Inputs &inputs) { return {input_value(inputs, 0)}; }

std::vector<Value> dropout(const Node &, int64_t, const Inputs &inputs) {
    if (inputs.size() > 2 && inputs[2] != nullptr && integers_of(inputs, 2).data != std::vector<int64_t>{0}) {
        throw Refusal("drops channels (training mode): export the model in evaluation mode");
    }
    return {input_value(inputs, 0)};
}

/// Zeros around an image wait for the layer that reads it.
std::vector<Value> pad(const Node &node, int64_t, const Inputs &inputs) {
    constexpr int64_t kMost = 1 << 10;
    const Dims pads = axes_of(node, inputs, "pads", 1);
    if (std::ranges::all_of(pads, [](int64_t amount) { return amount == 0; })) return {input_value(inputs, 0)};
    const auto *in = std::get_if<Activations>(&input_value(inputs, 0));
    const bool image = in != nullptr && in->plane == Plane::kHeightWidth && in->channels.dims.size() == 2;
    if (!image || pads.size() != 2 * in->rank() || node.text("mode", "constant") != "constant") {
        throw Refusal("pads " + message::shape_text(pads) + ", expected zeros around an image");
    }
    const bool zero = inputs.size() < 3 || inputs[2] == nullptr || floats_of(inputs, 2).data == std::vector<float>{0};
    if (!zero || node.real("value", 0) != 0) throw Refusal("pads with other values than zero");
    std::vector<int64_t> before(in->rank()), after(in->rank());
    for (size_t i = 0; i < in->rank(); ++i) {
        before[in->own_axis(i)] = pads[i];
        after[in->own_axis(i)] = pads[in->rank() + i];
    }
    const auto sane = [](int64_t amount) { return 0 <= amount && amount <= kMost; };
    const bool channels = before[0] != 0 || before[1] != 0 || after[0] != 0 || after[1] != 0;
    if (channels || !std::ranges::all_of(before, sane) || !std::ranges::all_of(after, sane)) {
        throw Refusal("pads " + message::shape_text(pads) + ", expected rows and columns");
    }
    Activations out = *in;
    out.pads.top += static_cast<int>(before[2]);
    out.pads.left += static_cast<int>(before[3]);
    out.pads.bottom += static_cast<int>(after[2]);
    out.pads.right += static_cast<int>(after[3]);
    return {out};
}

std::vector<Value> shape(const Node &node, int64_t, const Inputs &inputs) {
    const Dims dims = dims_of(input_value(inputs, 0));
    const Range range{node.integer("start", 0), node.integer("end", std::numeric_limits<int64_t>::max()), 0, 1};
    const Array<int64_t> all{{static_cast<int64_t>(dims.size())}, dims};
    return {selected(all, 0, places_of(range, all.dims[0]))};
}

using Move = std::vector<Value> (*)(const Node &, int64_t opset, const Inputs &);

const std::map<std::string, Move> &moves() {
    static const std::map<std::string, Move> table = {
        {"Concat", concat},       {"Dropout", dropout}, {"Flatten", flatten}, {"Gather", gather},
        {"Identity", identity},   {"Pad", pad},         {"Reshape", reshape}, {"Shape", shape},
        {"Slice", slice},         {"Split", split},     {"Squeeze", squeeze}, {"Transpose", transpose},
        {"Unsqueeze", unsqueeze},
    };
    return table;
}

}  // namespace

bool is_move(const std::string &op) { return moves().contains(op); }

std::vector<Value> run_move(const Node &node, int64_t opset, const Inputs &inputs) {
    return moves().at(node.op())(node, opset, inputs);
}

const Value &input_value(const Inputs &inputs, size_t i) {
    if (i >= inputs.size() || inputs[i] == nullptr) throw Refusal("lacks input " + std::to_string(i));
    return *inputs[i];
}

const Array<int64_t> &integers_of(const Inputs &inputs, size_t i) {
    const auto *array = std::get_if<Array<int64_t>>(&input_value(inputs, i));
    if (array == nullptr) throw Refusal("input " + std::to_string(i) + " is not a constant tensor of integers");
    return *array;
}

const Array<float> &floats_of(const Inputs &inputs, size_t i) {
    const auto *array = std::get_if<Array<float>>(&input_value(inputs, i));
    if (array == nullptr) throw Refusal("input " + std::to_string(i) + " is not a constant tensor of floats");
    return *array;
}

Dims Activations::dims() const {
    Dims all = channels.dims;
    if (plane == Plane::kFlat) all.push_back(int64_t{size.height} * size.width);
    if (plane == Plane::kHeightWidth) {
        all.push_back(int64_t{size.height} + pads.top + pads.bottom);
        all.push_back(int64_t{size.width} + pads.left + pads.right);
    }
    if (order.empty()) return all;
    Dims moved;
    for (const size_t axis : order) moved.push_back(all[axis]);
    return moved;
}

Dims dims_of(const Value &value) {
    if (const auto *activations = std::get_if<Activations>(&value)) return activations->dims();
    if (const auto *floats = std::get_if<Array<float>>(&value)) return floats->dims;
    return std::get<Array<int64_t>>(value).dims;
}

}  // namespace shufflenet::imports
