// Dense arrays of anything, and what shape-changing ONNX operators do with them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "refusal.h"
#include "runtime/src/message.h"

namespace shufflenet::imports {

using Dims = std::vector<int64_t>;

/// Row-major.
template <typename T>
struct Array {
    Dims dims;
    std::vector<T> data;
};

/// Elements that one operator may make of nothing: far more than any shape arithmetic, and no danger to memory.
inline constexpr int64_t kMaxGrowth = int64_t{1} << 22;

/// Elements of an array of this shape. Throws Refusal above `most`.
inline int64_t element_count(const Dims &dims, int64_t most = kMaxGrowth) {
    const std::optional<int64_t> count = tensor_bytes(dims, 1);
    if (!count || *count > most) throw Refusal("shape " + message::shape_text(dims) + " is too large");
    return *count;
}

/// An axis counted from the front, of `rank`; negative ones count from the back.
inline size_t axis_of(int64_t axis, size_t rank) {
    const auto count = static_cast<int64_t>(rank);
    if (axis < -count || axis >= count) {
        throw Refusal("axis " + std::to_string(axis) + " of a tensor of rank " + std::to_string(count));
    }
    return static_cast<size_t>(axis < 0 ? axis + count : axis);
}

namespace detail {

inline int64_t product(std::span<const int64_t> dims) {
    int64_t result = 1;
    for (const int64_t n : dims) result *= n;
    return result;
}

template <typename T>
int64_t most_elements(const Array<T> &array) {
    return std::max(kMaxGrowth, static_cast<int64_t>(array.data.size()));
}

}  // namespace detail

/// ONNX Gather: `axis` is replaced by the shape of `indices`, which may count from the back.
template <typename T>
Array<T> gathered(const Array<T> &in, size_t axis, const Array<int64_t> &indices) {
    const std::span dims(in.dims);
    const int64_t extent = dims[axis];
    Array<T> out;
    out.dims.assign(dims.begin(), dims.begin() + axis);
    out.dims.insert(out.dims.end(), indices.dims.begin(), indices.dims.end());
    out.dims.insert(out.dims.end(), dims.begin() + axis + 1, dims.end());
    const int64_t count = element_count(out.dims, detail::most_elements(in));
    const int64_t outer = detail::product(dims.first(axis)), inner = detail::product(dims.subspan(axis + 1));
    for (const int64_t index : indices.data) {
        if (index < -extent || index >= extent) {
            throw Refusal("index " + std::to_string(index) + " of an axis of " + std::to_string(extent));
        }
    }
    out.data.reserve(count);
    for (int64_t o = 0; o < outer && count > 0; ++o) {
        for (const int64_t index : indices.data) {
            const auto from = in.data.begin() + (o * extent + (index < 0 ? index + extent : index)) * inner;
            out.data.insert(out.data.end(), from, from + inner);
        }
    }
    return out;
}

/// The elements of `axis` at these places.
template <typename T>
Array<T> selected(const Array<T> &in, size_t axis, std::vector<int64_t> places) {
    const auto count = static_cast<int64_t>(places.size());
    return gathered(in, axis, {{count}, std::move(places)});
}

/// Axis i of the result is axis order[i] of `in`; `order` is a permutation.
template <typename T>
Array<T> transposed(const Array<T> &in, std::span<const size_t> order) {
    const size_t rank = in.dims.size();
    std::vector<int64_t> stride(rank, 1);
    for (size_t i = rank; i-- > 1;) stride[i - 1] = stride[i] * in.dims[i];
    Array<T> out;
    for (const size_t axis : order) out.dims.push_back(in.dims[axis]);
    out.data.reserve(in.data.size());
    std::vector<int64_t> at(rank, 0);
    for (size_t count = 0; count < in.data.size(); ++count) {
        int64_t from = 0;
        for (size_t i = 0; i < rank; ++i) from += at[i] * stride[order[i]];
        out.data.push_back(in.data[from]);
        for (size_t i = rank; i-- > 0 && ++at[i] == out.dims[i];) at[i] = 0;
    }
    return out;
}

/// ONNX Concat; at least one part.
template <typename T>
Array<T> concatenated(const std::vector<const Array<T> *> &parts, size_t axis) {
    Array<T> out{parts.front()->dims, {}};
    out.dims[axis] = 0;
    for (const Array<T> *part : parts) {
        Dims expected = out.dims;
        if (axis < part->dims.size()) expected[axis] = part->dims[axis];
        if (part->dims != expected) {
            throw Refusal("shapes " + message::shape_text(parts.front()->dims) + " and " +
                          message::shape_text(part->dims) + " do not fit together");
        }
        out.dims[axis] += part->dims[axis];
        element_count(out.dims);
    }
    const int64_t count = element_count(out.dims);
    const int64_t outer = detail::product(std::span(out.dims).first(axis));
    out.data.reserve(count);
    for (int64_t o = 0; o < outer && count > 0; ++o) {
        for (const Array<T> *part : parts) {
            const int64_t run = detail::product(std::span(part->dims).subspan(axis));
            out.data.insert(out.data.end(), part->data.begin() + o * run, part->data.begin() + (o + 1) * run);
        }
    }
    return out;
}

}  // namespace shufflenet::imports
