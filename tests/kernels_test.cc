// Every kind of kernel, compiled in memory for each instruction set that this processor has, against a naive
// computation in double precision. All that a kernel has no business to read is not a number: the arena beside the
// channels of its table, weights of lanes that hold no channel, memory that it allocates. Channels lie anywhere within
// their planes.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <span>

#include "generators/pipeline.h"
#include "naive_kernel.h"
#include "networks/targets.h"

namespace shufflenet {
namespace {

using networks::kNoActivation;
using networks::kRelu;
using networks::kRelu6;
using networks::leaky_relu;
using networks::square;
using networks::Window;
using namespace naive;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// The memory of kernels.

std::atomic<int64_t> live_bytes = 0, most_bytes = 0;

struct Header {
    void *block;
    size_t size, counted;
};

void *counted_malloc(Halide::JITUserContext * /*context*/, size_t size) {
    constexpr size_t kLine = 64;
    // As the runtime's allocator has it.
    const size_t counted = (size + 3 * kLine - 1) / kLine * kLine;
    auto *block = static_cast<std::byte *>(std::aligned_alloc(2 * kLine, (size + 6 * kLine) / (2 * kLine) * 2 * kLine));
    auto *memory = block + 2 * kLine;
    *reinterpret_cast<Header *>(memory - sizeof(Header)) = {block, size, counted};
    std::fill_n(reinterpret_cast<float *>(memory), size / sizeof(float), kNan);
    live_bytes += static_cast<int64_t>(counted);
    most_bytes = std::max(most_bytes.load(), live_bytes.load());
    return memory;
}

void counted_free(Halide::JITUserContext * /*context*/, void *memory) {
    if (memory == nullptr) return;
    const Header header = *reinterpret_cast<Header *>(static_cast<std::byte *>(memory) - sizeof(Header));
    live_bytes -= static_cast<int64_t>(header.counted);
    std::free(header.block);
}

/// On one thread, so that what is counted is what one thread needs.
int serial(Halide::JITUserContext *context, int (*body)(Halide::JITUserContext *, int, uint8_t *), int first, int size,
           uint8_t *closure) {
    for (int i = first; i < first + size; ++i) {
        if (const int result = body(context, i, closure); result != 0) return result;
    }
    return 0;
}

// Kernels.

struct Case {
    const char *name;
    Kernel kernel;
    std::vector<int> classes = {};  ///< Of a linear layer.
    schedules::Tuning tuning = {};
};

void PrintTo(const Case &c, std::ostream *out) { *out << networks::key(c.kernel); }

Kernel sized(Kernel kernel) {
    if (kernel.kind == KernelKind::kUnit || kernel.kind == KernelKind::kStem ||
        kernel.kind == KernelKind::kConvolution || kernel.kind == KernelKind::kDepthwise ||
        kernel.kind == KernelKind::kMaxPool || kernel.kind == KernelKind::kAveragePool) {
        kernel.out = networks::window_size(kernel.window, kernel.in);
        if (kernel.pools()) kernel.out = networks::window_size(kernel.pool, kernel.out);
    } else if (kernel.kind == KernelKind::kPooledPointwise || kernel.kind == KernelKind::kGlobalPool) {
        kernel.out = {1, 1};
    } else {
        kernel.out = kernel.in;
    }
    if (kernel.kind == KernelKind::kUnit && !kernel.ordered) kernel.last_summands = kernel.middle;
    return kernel;
}

Kernel stem(Size in, int channels, int lanes, const Window &window, const networks::Activation &activation,
            const Window &pool = {{0, 0}}) {
    return sized({.kind = KernelKind::kStem,
                  .in = in,
                  .in_channels = channels,
                  .lanes = lanes,
                  .window = window,
                  .pool = pool,
                  .activation = activation});
}
Kernel unit(Kernel kernel) {
    kernel.kind = KernelKind::kUnit;
    return sized(kernel);
}
/// A unit without its first convolution reads `summands` channels of each group from so many planes.
Kernel separable(Kernel kernel, int summands) {
    kernel.kind = KernelKind::kUnit;
    kernel.middle = kernel.in_planes * kPlane;
    kernel.ordered = true;
    kernel.last_summands = summands;
    return sized(kernel);
}
/// Layers of whole planes.
Kernel planar(KernelKind kind, Size in, int planes, const Window &window = {},
              const networks::Activation &activation = kNoActivation) {
    return sized({.kind = kind,
                  .in = in,
                  .in_planes = planes,
                  .lanes = planes * kPlane,
                  .window = window,
                  .activation = activation});
}
Kernel pointwise(KernelKind kind, Size in, int channels, int lanes, int quads, const networks::Activation &activation,
                 int groups = 1, bool shortcut = false) {
    return sized({.kind = kind,
                  .in = in,
                  .in_channels = channels,
                  .quads = quads,
                  .lanes = lanes,
                  .groups = groups,
                  .shortcut = shortcut,
                  .activation = activation});
}
Kernel uncounted(Kernel kernel) {
    kernel.counts_padding = false;
    return kernel;
}
Kernel of_16_bits(Kernel kernel) {
    kernel.element = Element::kS16;
    return kernel;
}

Kernel linear(int channels, int row_planes, bool ordered) {
    return sized({.kind = KernelKind::kLinear,
                  .in = {1, 1},
                  .in_channels = channels,
                  .in_planes = row_planes,
                  .lanes = 10,
                  .ordered = ordered});
}

Kernel resized(Size in, Size out, int planes, const networks::Resize &resize) {
    Kernel kernel = planar(KernelKind::kResize, in, planes);
    kernel.out = out;
    kernel.resize = resize;
    return kernel;
}

std::vector<Case> cases() {
    using Mode = networks::Resize::Mode;
    using At = networks::Resize::Coordinates;
    using Rounding = networks::Resize::Rounding;
    const Window down = square(3, 2);
    const Kernel plain_unit = unit({.in = {10, 9},
                                    .in_channels = 21,
                                    .quads = 3,
                                    .middle = 50,
                                    .lanes = 41,
                                    .window = square(3),
                                    .first = kRelu,
                                    .activation = kRelu});
    const Kernel one_plane =
        unit({.in = {10, 9}, .in_channels = 9, .middle = 16, .lanes = 16, .window = square(3), .first = kRelu});
    const Window wide_stride{{3, 3}, {1, 2}, {1, 1}}, tall{{3, 5}, {2, 1}, {1, 2}};
    return {
        {"stem", stem({33, 47}, 3, 24, down, kRelu, down)},
        {"stem_prime", stem({34, 29}, 3, 7, down, kRelu6, down)},
        {"stem_row", stem({1, 45}, 3, 5, down, kRelu, down)},
        {"stem_column", stem({21, 1}, 3, 35, down, kRelu, down)},
        {"stem_pixel", stem({1, 1}, 3, 1, down, kRelu, down)},
        {"stem_no_pool", stem({19, 23}, 3, 32, down, kNoActivation)},
        {"stem_leaky_pool", stem({27, 31}, 3, 24, down, leaky_relu(0.1F), wide_stride)},
        {"stem_linear_pool", stem({17, 9}, 1, 12, down, kNoActivation, square(3))},
        {"stem_stride_1", stem({11, 13}, 4, 20, square(3), kRelu, down)},
        {"stem_5x5", stem({18, 21}, 3, 16, square(5, 2), kRelu)},
        {"stem_7x7", stem({25, 22}, 3, 19, square(7, 2), kRelu, down)},
        {"stem_wide_stride", stem({12, 15}, 2, 9, wide_stride, leaky_relu(0.25F), down)},

        {"unit", unit({.in = {14, 14},
                       .in_channels = 58,
                       .quads = 11,
                       .middle = 58,
                       .lanes = 58,
                       .window = square(3),
                       .first = kRelu,
                       .activation = kRelu})},
        {"unit_seven", unit({.in = {7, 7},
                             .in_channels = 101,
                             .quads = 3,
                             .middle = 116,
                             .lanes = 116,
                             .window = square(3),
                             .first = kRelu,
                             .activation = kRelu})},
        {"unit_prime", unit({.in = {9, 11},
                             .in_channels = 13,
                             .quads = 0,
                             .middle = 29,
                             .lanes = 37,
                             .window = square(3),
                             .first = kRelu6,
                             .second = kRelu6})},
        {"unit_small", unit({.in = {5, 6},
                             .in_channels = 1,
                             .middle = 2,
                             .lanes = 3,
                             .window = square(3),
                             .first = leaky_relu(0.1F),
                             .activation = leaky_relu(0.1F)})},
        {"unit_down", unit({.in = {15, 18},
                            .in_channels = 24,
                            .quads = 6,
                            .middle = 44,
                            .lanes = 20,
                            .window = down,
                            .first = kRelu,
                            .activation = kRelu})},
        {"unit_row", unit({.in = {1, 17},
                           .in_channels = 17,
                           .quads = 2,
                           .middle = 23,
                           .lanes = 23,
                           .window = square(3),
                           .first = kRelu,
                           .activation = kRelu})},
        {"unit_shortcut", unit({.in = {8, 9},
                                .in_channels = 19,
                                .quads = 1,
                                .middle = 53,
                                .lanes = 39,
                                .shortcut = true,
                                .window = square(3),
                                .first = kRelu6,
                                .second = kRelu6})},
        {"unit_5x5", unit({.in = {13, 10},
                           .in_channels = 16,
                           .quads = 4,
                           .middle = 24,
                           .lanes = 24,
                           .window = square(5, 2),
                           .first = kRelu,
                           .second = kRelu,
                           .activation = kRelu})},
        {"unit_7x7", unit({.in = {9, 9}, .in_channels = 8, .middle = 16, .lanes = 8, .window = square(7)})},
        {"unit_tall",
         unit({.in = {12, 7}, .in_channels = 6, .middle = 12, .lanes = 6, .window = tall, .first = kRelu})},
        {"unit_groups", unit({.in = {7, 8},
                              .in_channels = 36,
                              .quads = 2,
                              .middle = 20,
                              .lanes = 22,
                              .middle_groups = 3,
                              .groups = 3,
                              .ordered = true,
                              .shortcut = true,
                              .window = square(3),
                              .first = kRelu,
                              .activation = kRelu,
                              .last_summands = 20})},
        {"unit_last_groups", unit({.in = {10, 6},
                                   .in_channels = 11,
                                   .middle = 34,
                                   .lanes = 9,
                                   .groups = 2,
                                   .ordered = true,
                                   .window = down,
                                   .first = kRelu,
                                   .last_summands = 17})},
        {"unit_first_groups", unit({.in = {6, 6},
                                    .in_channels = 24,
                                    .quads = 1,
                                    .middle = 18,
                                    .lanes = 40,
                                    .middle_groups = 4,
                                    .ordered = true,
                                    .window = square(3),
                                    .second = kRelu,
                                    .last_summands = 72})},
        {"unit_strips", unit({.in = {61, 58},
                              .in_channels = 15,
                              .quads = 2,
                              .middle = 61,
                              .lanes = 21,
                              .window = square(3),
                              .first = kRelu,
                              .activation = kRelu})},
        {"unit_strips_groups", unit({.in = {60, 57},
                                     .in_channels = 8,
                                     .middle = 19,
                                     .lanes = 6,
                                     .middle_groups = 2,
                                     .groups = 2,
                                     .ordered = true,
                                     .shortcut = true,
                                     .window = square(3),
                                     .first = kRelu,
                                     .last_summands = 19})},

        {"unit_in_rows", plain_unit, {}, {.tile_pixels = 5, .tile_vectors = 3, .order = 1, .block_rows = 3}},
        {"unit_in_channels", plain_unit, {}, {.tile_pixels = 3, .tile_vectors = 4, .order = 2, .depthwise_columns = 3}},
        {"unit_in_strips", one_plane, {}, {.tile_pixels = 9, .tile_vectors = 2, .order = 3, .strip_rows = 3}},
        {"separable_tuned",
         separable({.in = {9, 10}, .in_planes = 3, .lanes = 50, .window = down}, 40),
         {},
         {.tile_pixels = 2, .tile_vectors = 7, .tail_pixels = 3, .block_rows = 2, .depthwise_columns = 4}},
        {"pointwise_tuned",
         pointwise(KernelKind::kPointwise, {6, 7}, 20, 80, 2, kRelu),
         {},
         {.tile_pixels = 5, .tile_vectors = 3}},
        {"pooled_tuned",
         pointwise(KernelKind::kPooledPointwise, {5, 5}, 20, 80, 2, kRelu),
         {},
         {.tile_pixels = 4, .tile_vectors = 3}},
        {"stem_tuned",
         stem({23, 25}, 3, 24, down, kRelu, down),
         {},
         {.tile_pixels = 3, .tile_vectors = 2, .strip_rows = 2}},

        {"separable",
         separable({.in = {14, 13}, .in_planes = 4, .quads = 5, .lanes = 58, .window = down, .activation = kRelu}, 37)},
        {"separable_second",
         separable(
             {.in = {8, 8}, .in_planes = 2, .lanes = 31, .window = square(3), .second = kRelu6, .activation = kRelu6},
             29)},
        {"separable_groups", separable({.in = {7, 9},
                                        .in_planes = 3,
                                        .quads = 2,
                                        .lanes = 18,
                                        .groups = 2,
                                        .shortcut = true,
                                        .window = square(3),
                                        .second = leaky_relu(0.1F)},
                                       22)},
        {"separable_strips",
         separable({.in = {66, 64}, .in_planes = 4, .lanes = 17, .window = square(5), .activation = kRelu}, 50)},

        {"pointwise", pointwise(KernelKind::kPointwise, {9, 7}, 37, 48, 4, kRelu)},
        {"pointwise_prime", pointwise(KernelKind::kPointwise, {5, 5}, 19, 29, 0, leaky_relu(0.2F), 1, true)},
        {"pointwise_groups", pointwise(KernelKind::kPointwise, {6, 5}, 33, 13, 1, kRelu, 3, true)},
        {"pointwise_pixel", pointwise(KernelKind::kPointwise, {1, 1}, 53, 80, 6, kNoActivation)},
        {"pointwise_large", pointwise(KernelKind::kPointwise, {29, 31}, 20, 160, 5, kRelu)},
        {"pooled", pointwise(KernelKind::kPooledPointwise, {7, 7}, 58, 144, 12, kRelu)},
        {"pooled_pixel", pointwise(KernelKind::kPooledPointwise, {1, 1}, 11, 35, 1, kRelu6)},
        {"pooled_odd", pointwise(KernelKind::kPooledPointwise, {5, 11}, 23, 61, 0, leaky_relu(0.1F))},

        {"convolution", sized({.kind = KernelKind::kConvolution,
                               .in = {11, 9},
                               .in_channels = 19,
                               .lanes = 27,
                               .shortcut = true,
                               .window = square(3),
                               .activation = kRelu})},
        {"convolution_down", sized({.kind = KernelKind::kConvolution,
                                    .in = {10, 13},
                                    .in_channels = 7,
                                    .lanes = 48,
                                    .window = square(5, 2),
                                    .activation = leaky_relu(0.1F)})},
        {"convolution_small",
         sized({.kind = KernelKind::kConvolution, .in = {1, 6}, .in_channels = 2, .lanes = 3, .window = square(3)})},
        {"convolution_1x1_down", sized({.kind = KernelKind::kConvolution,
                                        .in = {8, 7},
                                        .in_channels = 12,
                                        .lanes = 20,
                                        .window = square(1, 2),
                                        .activation = kRelu})},
        {"convolution_large", sized({.kind = KernelKind::kConvolution,
                                     .in = {83, 79},
                                     .in_channels = 47,
                                     .lanes = 9,
                                     .window = square(3, 2),
                                     .activation = kRelu})},

        {"depthwise", planar(KernelKind::kDepthwise, {13, 10}, 3, square(3), kRelu)},
        {"depthwise_down", planar(KernelKind::kDepthwise, {12, 15}, 2, square(5, 2), kRelu6)},
        {"depthwise_tall", planar(KernelKind::kDepthwise, {9, 8}, 1, tall, leaky_relu(0.1F))},
        {"depthwise_row", planar(KernelKind::kDepthwise, {1, 5}, 1, square(3))},
        {"max_pool", planar(KernelKind::kMaxPool, {14, 11}, 2, down)},
        {"max_pool_5x5", planar(KernelKind::kMaxPool, {9, 9}, 1, square(5))},
        {"max_pool_2x2", planar(KernelKind::kMaxPool, {8, 7}, 1, {{2, 2}, {2, 2}, {0, 0}})},
        {"average_pool", planar(KernelKind::kAveragePool, {14, 11}, 2, down, kRelu)},
        {"average_pool_inside", uncounted(planar(KernelKind::kAveragePool, {9, 12}, 2, square(3)))},
        {"global_pool", planar(KernelKind::kGlobalPool, {7, 9}, 5)},
        {"global_pool_plane", planar(KernelKind::kGlobalPool, {3, 2}, 1)},
        {"add", planar(KernelKind::kAdd, {17, 15}, 3, {}, leaky_relu(0.1F))},
        {"add_pixel", planar(KernelKind::kAdd, {1, 1}, 1, {}, kRelu)},
        {"copy", sized({.kind = KernelKind::kCopy, .in = {9, 23}, .lanes = 37})},

        {"add_sigmoid", planar(KernelKind::kAdd, {5, 7}, 2, {}, networks::kSigmoid)},
        {"nearest_x2", resized({11, 7}, {22, 14}, 3, {Mode::kNearest, At::kAsymmetric, Rounding::kFloor})},
        {"nearest_x3", resized({5, 4}, {15, 12}, 1, {Mode::kNearest, At::kHalfPixel, Rounding::kPreferFloor})},
        {"nearest_ceil", resized({5, 4}, {7, 9}, 1, {Mode::kNearest, At::kHalfPixel, Rounding::kCeil})},
        {"nearest_down", resized({15, 8}, {5, 4}, 2, {Mode::kNearest, At::kAsymmetric, Rounding::kPreferCeil})},
        {"bilinear_x2", resized({10, 13}, {20, 26}, 2, {Mode::kBilinear, At::kHalfPixel, {}})},
        {"bilinear_half", resized({20, 26}, {10, 13}, 2, {Mode::kBilinear, At::kHalfPixel, {}})},
        {"bilinear_corners", resized({7, 5}, {17, 11}, 1, {Mode::kBilinear, At::kAlignCorners, {}})},
        {"bilinear_to_one", resized({7, 5}, {1, 1}, 1, {Mode::kBilinear, At::kAlignCorners, {}})},
        {"bilinear_asymmetric", resized({6, 1}, {9, 2}, 1, {Mode::kBilinear, At::kAsymmetric, {}})},
        {"softmax", sized({.kind = KernelKind::kSoftmax, .in = {6, 7}, .lanes = 80})},
        {"softmax_few", sized({.kind = KernelKind::kSoftmax, .in = {31, 1}, .lanes = 5})},
        {"softmax_holes", sized({.kind = KernelKind::kSoftmax, .in = {2, 9}, .lanes = 37})},

        {"linear", linear(61, 4, false), {1, 10, 63, 64, 65, 200}},
        {"linear_ordered", linear(45, 5, true), {3, 130}},
        {"linear_16bits", of_16_bits(linear(61, 4, false)), {1, 10, 64, 65, 200}},
        {"linear_ordered_16bits", of_16_bits(linear(45, 5, true)), {3, 130}},
    };
}

/// Memory of a kernel's operands.
class Memory {
  public:
    explicit Memory(const Kernel &kernel) : k_(kernel), tables_(networks::table_layout(kernel)) {
        fill_weights();
        if (k_.kind == KernelKind::kStem) {
            fill(&in, size_t(k_.in_channels) * k_.in.pixels());
        } else {
            place_planes();
            place_channels();
            if (k_.kind == KernelKind::kSoftmax) leave_lanes();
            place_lanes();
            place_addends();
            in.resize(in.size() + 16, kNan);
        }
    }
    std::vector<float> in, weights;
    std::vector<int> table;

    float random() { return std::uniform_real_distribution<float>(-1, 1)(generator_); }
    void fill(std::vector<float> *floats, size_t count) {
        for (size_t i = 0; i < count; ++i) floats->push_back(random());
    }
    /// A linear layer's weights, for so many classes.
    void fill_linear(int classes) {
        const WeightLayout layout = linear_layout(k_.in_channels, classes, k_.element);
        weights.assign(layout.end(), 0);
        std::byte *const elements = std::as_writable_bytes(std::span(weights)).data();
        for (int lane = 0; lane < layout.lanes * layout.constants(); ++lane) weights.at(lane) = random();
        for (int lane = 0; lane < layout.lanes; ++lane) {
            for (int row = 0; row < layout.rows; ++row) {
                const int index = layout.index(0, lane, row);
                const float value = random();
                const auto integer = static_cast<int16_t>(value * 32767);
                if (layout.has_factors()) {
                    std::memcpy(elements + index * sizeof integer, &integer, sizeof integer);
                } else {
                    weights.at(index) = value;
                }
            }
        }
    }
    template <typename T>
    void shuffle(std::vector<T> *items) {
        std::shuffle(items->begin(), items->end(), generator_);
    }

  private:
    /// Lanes that hold no channel have weights that are not numbers.
    void fill_weights() {
        if (k_.kind == KernelKind::kLinear) return;  // See fill_linear().
        weights.assign(networks::weight_floats(k_), kNan);
        const std::vector<WeightLayout> layouts = networks::weight_layouts(k_);
        for (size_t i = 0; i < layouts.size(); ++i) {
            const WeightLayout &w = layouts[i];
            const bool last = i + 1 == layouts.size();
            for (int g = 0; g < w.groups; ++g) {
                for (int lane = 0; lane < (last ? k_.lanes : k_.middle); ++lane) {
                    weights.at(w.bias + g * w.stride + lane) = random();
                    for (int row = 0; row < w.rows; ++row) weights.at(w.index(g, lane, row)) = random();
                }
            }
        }
    }
    /// A new plane of numbers that are none.
    int new_plane(Size size) {
        in.resize(in.size() + size_t(kPlane) * size.pixels() + kPlane, kNan);
        return static_cast<int>(in.size()) - kPlane * size.pixels();
    }
    void write(int offset, Size size) {
        for (int p = 0; p < size.pixels(); ++p) in.at(size_t(offset) + size_t(p) * kPlane) = random();
    }
    /// Planes in any order; lane 5 of each holds no channel.
    std::vector<int> written_planes(int count, Size size) {
        std::vector<int> planes;
        for (int i = 0; i < count; ++i) {
            planes.push_back(new_plane(size));
            for (int lane = 0; lane < kPlane; ++lane) {
                if (lane != 5) write(planes.back() + lane, size);
            }
        }
        shuffle(&planes);
        return planes;
    }
    void append(const std::vector<int> &entries) { table.insert(table.end(), entries.begin(), entries.end()); }

    void place_planes() { append(written_planes(tables_.planes, k_.in)); }
    void place_addends() {
        append(written_planes(tables_.addends, k_.out));
        ASSERT_EQ(static_cast<int>(table.size()), tables_.size());
    }
    /// Lanes without a channel: those after the last one, and some before.
    void leave_lanes() {
        std::fill(table.begin() + k_.lanes, table.end(), -1);
        for (int lane = 7; lane + 1 < k_.lanes; lane += 10) table[lane] = -1;
    }
    /// Runs of four that start at any lane, and channels in between.
    void place_channels() {
        if (k_.kind == KernelKind::kLinear) return place_rows();
        const int groups = k_.expands() ? k_.middle_groups : k_.groups;
        const int each = tables_.channels / groups;
        for (int g = 0; g < groups; ++g) {
            std::vector<int> quads, singles;
            for (int i = 0; k_.in_planes == 0 && i < k_.quads; i += 3) {
                const int plane = new_plane(k_.in);
                for (const int lane : {1, 6, 12}) quads.push_back(plane + lane);
            }
            shuffle(&quads);
            quads.resize(k_.in_planes == 0 ? k_.quads : 0);
            const int rest = each - 4 * static_cast<int>(quads.size());
            for (int i = 0; i < rest; i += 4) {
                const int plane = new_plane(k_.in);
                for (const int lane : {0, 3, 7, 15}) singles.push_back(plane + lane);
            }
            shuffle(&singles);
            singles.resize(rest);
            std::vector<int> all;
            for (const int quad : quads) {
                for (int lane = 0; lane < 4; ++lane) all.push_back(quad + lane);
            }
            all.insert(all.end(), singles.begin(), singles.end());
            for (const int offset : all) write(offset, k_.in);
            append(all);
        }
    }
    /// Lanes of depthwise outputs that hold channels, in any order after runs of four.
    void place_lanes() {
        for (int g = 0; g < (tables_.lanes > 0 ? k_.groups : 0); ++g) append(lanes_of_a_group());
    }
    std::vector<int> lanes_of_a_group() {
        std::vector<int> quads, singles;
        const int lanes = k_.middle_planes() * kPlane;
        for (int lane = 0; lane < k_.middle_groups * lanes; ++lane) {
            const int in_plane = lane % kPlane;
            if (k_.expands()) {
                if (lane % lanes < k_.middle) singles.push_back(lane);
            } else {
                if (in_plane == 1 || in_plane == 8) quads.push_back(lane);
                if (in_plane == 0 || in_plane > 5) singles.push_back(lane);
            }
        }
        shuffle(&quads);
        shuffle(&singles);
        std::vector<int> all;
        for (int i = 0; !k_.expands() && i < k_.quads; ++i) {
            for (int lane = 0; lane < 4; ++lane) all.push_back(quads.at(i) + lane);
        }
        for (int i = 0; static_cast<int>(all.size()) < k_.last_summands; ++i) {
            all.push_back(singles.at(i % singles.size()));
        }
        return all;
    }
    /// Nine images' rows.
    void place_rows() {
        std::vector<int> lanes(k_.in_planes * kPlane);
        std::iota(lanes.begin(), lanes.end(), 0);
        if (k_.ordered) shuffle(&lanes);
        lanes.resize(k_.in_channels);
        if (k_.ordered) append(lanes);
        in.assign(size_t{9} * k_.in_planes * kPlane, kNan);
        for (int image = 0; image < 9; ++image) {
            for (const int lane : lanes) in.at(size_t(image) * k_.in_planes * kPlane + lane) = random();
        }
    }

    const Kernel &k_;
    networks::TableLayout tables_;
    std::mt19937 generator_{1};
};

template <typename T>
Halide::Buffer<T> view(T *data, std::vector<halide_dimension_t> shape) {
    return Halide::Buffer<T>(data, static_cast<int>(shape.size()), shape.data());
}

/// Whether a kernel computed what was expected. What is to be no number may not have become one.
bool close(const Value &expected, float got) {
    if (std::isnan(expected.value)) return std::isnan(got);
    return std::abs(got - expected.value) <= expected.error + 1e-30;
}

struct How {
    std::string target;
    bool reference = false;
};

/// The target of that name, compiled for this processor; nothing where it has not all that the target has. A schedule
/// of another architecture is compiled for this one: what it computes does not depend on instructions.
std::optional<Halide::Target> runnable(const TargetSpec &spec) {
    const Halide::Target host = Halide::get_host_target();
    Halide::Target target{std::string(spec.halide)};
    if (target.arch != host.arch) target = {Halide::Target::Linux, host.arch, host.bits};
    for (const auto feature : {Halide::Target::AVX2, Halide::Target::AVX512_Skylake}) {
        if (target.has_feature(feature) && !host.has_feature(feature)) return {};
    }
    return target.with_feature(Halide::Target::JIT);
}

class KernelTest : public testing::TestWithParam<std::tuple<Case, How>> {
  protected:
    void SetUp() override {
        kernel_ = std::get<0>(GetParam()).kernel;
        const How &how = std::get<1>(GetParam());
        const TargetSpec &spec = *find_target(how.target);
        const std::optional<Halide::Target> target = runnable(spec);
        if (!target) GTEST_SKIP() << "more than this processor has";
        target_ = *target;
        built_.emplace(generators::make_pipeline(kernel_, Halide::Target(std::string(spec.halide)), spec.fma_units,
                                                 std::get<0>(GetParam()).tuning, how.reference));
        Halide::JITHandlers &handlers = built_->pipeline.jit_handlers();
        handlers.custom_malloc = counted_malloc;
        handlers.custom_free = counted_free;
        handlers.custom_do_par_for = serial;
        live_bytes = most_bytes = 0;
    }
    void run(Memory &memory, std::vector<Halide::Buffer<>> out) {
        const auto line = [](auto &floats) { return view(floats.data(), {{0, static_cast<int>(floats.size()), 1}}); };
        // Weights are aligned to a line, tables and the arena to nothing.
        std::vector<float> weights(memory.weights.size() + 16);
        const size_t to_line = (64 - reinterpret_cast<uintptr_t>(weights.data()) % 64) / sizeof(float) % 16;
        std::ranges::copy(memory.weights, weights.begin() + static_cast<std::ptrdiff_t>(to_line));
        std::vector<int> table = memory.table;
        table.insert(table.begin(), -1);
        built_->in.set(line(memory.in));
        built_->table.set(view(table.data() + 1, {{0, static_cast<int>(table.size()) - 1, 1}}));
        built_->weights.set(view(weights.data() + to_line, {{0, static_cast<int>(memory.weights.size()), 1}}));
        const int elements = static_cast<int>(memory.weights.size() * sizeof(float) / element_bytes(kernel_.element));
        built_->elements.set(Halide::Buffer<>(built_->elements.type(), weights.data() + to_line, elements));
        built_->pipeline.realize(Halide::Realization(out), target_);
        EXPECT_EQ(live_bytes, 0);
        EXPECT_LE(most_bytes, built_->scratch->bytes());
    }

    Kernel kernel_;
    Halide::Target target_;
    std::optional<generators::KernelPipeline> built_;
};

void check_linear_row(const Operands &operands, const std::vector<float> &out, int classes, int image) {
    const std::vector<Value> expected = operands.linear(classes, image);
    for (int j = 0; j < classes; ++j) {
        const float got = out[size_t(image) * classes + j];
        ASSERT_TRUE(close(expected[j], got)) << classes << " classes, image " << image << ", class " << j << ": " << got
                                             << ", expected " << expected[j].value << " +- " << expected[j].error;
    }
}

TEST_P(KernelTest, ComputesWhatIsExpected) {
    Memory memory(kernel_);
    if (kernel_.kind == KernelKind::kLinear) {
        for (const int classes : std::get<0>(GetParam()).classes) {
            memory.fill_linear(classes);
            for (const int images : {1, 3, 4, 9}) {
                std::vector<float> out(size_t(classes) * images + 1, -77.0F);
                run(memory, {view(out.data(), {{0, classes, 1}, {0, images, classes}}),
                             view(out.data(), {{0, 0, 1}, {0, images, classes}})});
                const Operands operands(kernel_, memory.in, memory.table, memory.weights);
                for (int image = 0; image < images; ++image) check_linear_row(operands, out, classes, image);
                EXPECT_EQ(out.back(), -77.0F);
            }
        }
        return;
    }
    // The caller's memory, of which not even a line's boundary is known, and guards around.
    constexpr int kGuard = 17;
    const int pixels = kernel_.out.pixels(), planes = kernel_.planes(), groups = kernel_.groups;
    std::vector<float> out(size_t(groups) * planes * pixels * kPlane + 2 * kGuard, -77.0F);
    std::vector<Halide::Buffer<>> outputs;
    const std::vector<ChannelPart> &parts = built_->parts;
    for (size_t i = 0; i < 2; ++i) {
        const ChannelPart part = i < parts.size() ? parts[i] : ChannelPart{parts[0].first, 0, 0};
        ASSERT_EQ(part.first % kPlane, 0);
        outputs.emplace_back(view(out.data() + kGuard + part.first / kPlane * pixels * kPlane,
                                  {{0, std::min(part.lanes, kPlane), 1},
                                   {0, pixels, kPlane},
                                   {0, planes_of(part.lanes), kPlane * pixels},
                                   {0, groups, planes * kPlane * pixels}}));
    }
    run(memory, outputs);
    for (int i = 0; i < kGuard; ++i) {
        EXPECT_EQ(out[i], -77.0F);
        EXPECT_EQ(out[out.size() - 1 - i], -77.0F);
    }
    const Lanes expected = Operands(kernel_, memory.in, memory.table, memory.weights).result();
    ASSERT_EQ(expected.lanes, groups * planes * kPlane);
    for (int lane = 0; lane < expected.lanes; ++lane) {
        if (lane % (planes * kPlane) >= kernel_.lanes) continue;
        for (int p = 0; p < pixels; ++p) {
            const float got = out[kGuard + (size_t(lane) / kPlane * pixels + p) * kPlane + lane % kPlane];
            const Value &right = expected.at(lane, p);
            ASSERT_TRUE(close(right, got)) << "lane " << lane << ", pixel " << p << ": " << got << ", expected "
                                           << right.value << " +- " << right.error;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Kernels, KernelTest,
                         testing::Combine(testing::ValuesIn(cases()),
                                          testing::Values(How{"sse41", true}, How{"sse41"}, How{"avx2"}, How{"avx512"},
                                                          How{"avx512x2"}, How{"neon"})),
                         [](const auto &info) {
                             const How &how = std::get<1>(info.param);
                             return std::string(std::get<0>(info.param).name) + "_" + how.target +
                                    (how.reference ? "_reference" : "");
                         });

}  // namespace
}  // namespace shufflenet
