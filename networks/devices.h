// The devices that kernels are compiled for beside the CPU, and what decides how a unit is cut into kernels.
#pragma once

#include <array>
#include <string_view>
#include <vector>

#include "layers.h"
#include "layout.h"

namespace shufflenet::inline SHUFFLENET_ABI {

struct DeviceSpec {
    std::string_view name;
    /// What Halide's target string says of it. The build reads it from this table, line by line, and adds to CUDA's the
    /// compute capability.
    std::string_view halide;
    /// Shared memory of a block that every such device has, in bytes.
    int shared_bytes;
};

/// OpenCL's full profile has 32 KiB at least; CUDA gives a block 48 KiB unasked.
inline constexpr std::array<DeviceSpec, 2> kDevices = {{
    {"opencl", "opencl", 32 << 10},
    {"cuda", "cuda", 48 << 10},
}};

/// The device of that name, or nullptr.
constexpr const DeviceSpec *find_device(std::string_view name) {
    for (const DeviceSpec &device : kDevices) {
        if (device.name == name) return &device;
    }
    return nullptr;
}

/// Threads of a block that every such device allows; several blocks of them fit on a multiprocessor.
inline constexpr int kMostThreads = 256;

/// Floats that a thread computes side by side: a vector load and store of 16 bytes.
inline constexpr int kThreadFloats = 4;

/// The lanes that a device's kernels compute of a tensor: whole vectors of a thread.
constexpr ChannelPart device_part(int channels, int vec) { return {0, round_up(channels, kThreadFloats), vec}; }

/// Floats from pixel to pixel of a convolution's input in shared memory: an odd number of vectors. Of the 32 banks of
/// four bytes, pixels that are an odd distance apart then start in different ones, up to eight of them.
constexpr int shared_stride(int lanes) { return round_up(lanes, kThreadFloats) | kThreadFloats; }

/// One unit's branch 2, as a device sees it.
struct UnitShape {
    Size in, out;
    int in_channels, channels, stride;
    constexpr int lanes() const { return round_up(channels, kThreadFloats); }
    /// Rows that `rows` output rows are computed from, those beyond the image's edges included.
    constexpr int in_rows(int rows) const { return (rows - 1) * stride + 3; }
    /// Lanes of pw1 that are computed, and consumed by the depthwise convolution, at a time.
    constexpr int group() const {
        for (int group = 32; group > 8; group -= kThreadFloats) {
            if (lanes() % group == 0) return group;
        }
        return lanes() < 16 ? lanes() : 16;
    }
    /// Floats that a block keeps for `rows` output rows: a group of pw1's outputs, all of the depthwise convolution's.
    constexpr int64_t floats(int rows) const {
        return int64_t{group()} * in_rows(rows) * in.width + int64_t{shared_stride(lanes())} * rows * out.width;
    }
};

constexpr UnitShape unit_shape(const StageShape &s, bool down) {
    return {down ? s.in : s.out, s.out, down ? s.in_channels : s.branch_channels, s.branch_channels, down ? 2 : 1};
}

/// Output rows of a block of the fused kernel: as many as fit, and as few as give the same number of blocks; 0: not
/// even one row fits.
constexpr int fused_rows(const UnitShape &u, int shared_bytes) {
    int rows = 0;
    while (rows < u.out.height && u.floats(rows + 1) * int64_t{sizeof(float)} <= shared_bytes) ++rows;
    if (rows == 0) return 0;
    const int blocks = (u.out.height + rows - 1) / rows;
    return (u.out.height + blocks - 1) / blocks;
}

/// Costs, in nanoseconds, by which a unit is computed as one kernel or two: see docs/gpu.md. Those of a device like the
/// H100 where none could be measured.
struct DeviceCosts {
    /// From the end of a kernel to the start of the next one in a stream or graph.
    double kernel = 1500;
    /// Multiply-adds a nanosecond of one multiprocessor: 128 lanes at 1.7 GHz, half of it reached.
    double multiply_adds = 110;
    /// Bytes a nanosecond of the whole device's second-level cache.
    double bytes = 5000;
};

namespace detail {

/// Nanoseconds of `blocks` blocks, each `work` multiply-adds, that move `bytes` in all, on `units` multiprocessors.
constexpr double kernel_time(const DeviceCosts &c, int64_t blocks, double work, double bytes, int units) {
    const int64_t waves = (blocks + units - 1) / units;
    const double compute = static_cast<double>(waves) * work / c.multiply_adds;
    const double memory = bytes / c.bytes;
    return c.kernel + (compute > memory ? compute : memory);
}

}  // namespace detail

/// Whether one kernel for branch 2 is quicker than two, for `images` images on `units` multiprocessors: it computes
/// the rows between blocks twice, and may give the device fewer blocks, but moves the intermediate tensors no further
/// than shared memory and is one launch less.
constexpr bool fused_pays(const UnitShape &u, int shared_bytes, int images, int units, const DeviceCosts &costs = {}) {
    const int rows = fused_rows(u, shared_bytes);
    if (rows == 0) return false;
    const auto pixels = [&](int r, const Size &s) { return static_cast<double>(r) * s.width; };
    const double lanes = u.lanes();
    const double out_pixels = u.out.pixels();
    const double in_pixels = u.in.pixels();
    const int64_t strips = int64_t{(u.out.height + rows - 1) / rows} * images;
    const double expand = lanes * u.in_channels;
    const double project = lanes * (kTaps + u.channels);
    const double fused_work = pixels(u.in_rows(rows), u.in) * expand + pixels(rows, u.out) * project;
    const double edges = 4.0 * images * (in_pixels * u.in_channels + out_pixels * lanes);
    const double fused = detail::kernel_time(costs, strips, fused_work, edges, units);

    // In two, a block is about 64 lanes of 56 pixels, and the tensor between them is written and read.
    constexpr double kBlock = 64.0 * 56.0;
    const auto blocks = [&](double p) { return static_cast<int64_t>(p * lanes / kBlock + 1) * images; };
    const double middle = 4.0 * images * in_pixels * lanes;
    const double two =
        detail::kernel_time(costs, blocks(in_pixels), kBlock * u.in_channels, edges / 2 + middle, units) +
        detail::kernel_time(costs, blocks(out_pixels), kBlock * (kTaps + u.channels), edges / 2 + middle, units);
    return fused < two;
}

/// One launch of a run: the layers that it computes, their multiply-adds, and the bytes that it cannot but move: what
/// it reads and writes of activations, and its weights once.
struct DeviceKernel {
    Name id;
    int64_t multiply_adds = 0, bytes = 0;
};

namespace detail {

constexpr DeviceKernel device_kernel(const Name &id, std::span<const Layer> layers, int images) {
    DeviceKernel kernel{id};
    const Layer &first = layers.front();
    const Layer &last = layers.back();
    int64_t elements =
        images * (int64_t{first.in.pixels()} * first.in_channels + int64_t{last.out.pixels()} * last.out_channels);
    for (const Layer &layer : layers) {
        kernel.multiply_adds += images * layer.flops();
        elements += layer.weight_elements() + (layer.has_weights() ? layer.out_channels : 0);
    }
    kernel.bytes = int64_t{sizeof(float)} * elements;
    return kernel;
}

}  // namespace detail

/// The launches of a run of `images` images, in order. `fused(stage, down)`: whether branch 2 of such a unit, of stage
/// 2, 3 or 4, is one kernel.
template <typename Fused>
std::vector<DeviceKernel> device_kernels(const Network &n, Size input, int classes, int images, const Fused &fused) {
    const std::vector<Layer> layers = network_layers(n, input, classes);
    std::span<const Layer> rest = layers;
    std::vector<DeviceKernel> kernels;
    const auto take = [&](const Name &id, size_t count) {
        kernels.push_back(detail::device_kernel(id, rest.first(count), images));
        rest = rest.subspan(count);
    };
    take("stem", 2);
    for (int number = 2; number < 2 + kStages; ++number) {
        for (int u = 0; u < n.units[number - 2]; ++u) {
            const Name id = Name("stage") + number + "_unit" + u;
            if (u == 0) take(id + "_branch1", 2);
            if (fused(number, u == 0)) {
                take(id + "_branch2", 3);
            } else {
                take(id + "_branch2_expand", 1);
                take(id + "_branch2_project", 2);
            }
        }
    }
    take("conv5_pool", 2);
    take("fc", 1);
    return kernels;
}

}  // namespace shufflenet
