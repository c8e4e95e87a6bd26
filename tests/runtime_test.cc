// The runtime on programs written by hand, whose kernels are plain functions: it needs no compiler of ours.
#include <HalideRuntime.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>
#include <numeric>
#include <random>
#include <span>

#include "allocation_count.h"
#include "networks/panels.h"
#include "runtime/src/abi.h"
#include "runtime/src/isa.h"
#include "runtime/src/pack.h"
#include "runtime/src/safetensors.h"
#include "shufflenet/c_interface.h"
#include "shufflenet/descriptor.h"
#include "shufflenet/model.h"

namespace shufflenet {
namespace {

constexpr int kHeight = 3, kWidth = 5, kPixels = kHeight * kWidth;
constexpr int kImageFloats = 3 * kPixels;

// What kernels were called with.

/// A buffer, and its dimensions, which the caller's memory holds.
struct Buffer {
    const float *host;
    int bits;
    std::vector<std::array<int, 2>> dims;  ///< Extent and stride of each.
};

Buffer copy_of(const halide_buffer_t &buffer) {
    Buffer copy{reinterpret_cast<const float *>(buffer.host), buffer.type.bits, {}};
    for (int i = 0; i < buffer.dimensions; ++i) copy.dims.push_back({buffer.dim[i].extent, buffer.dim[i].stride});
    return copy;
}

struct Recorded {
    const char *kernel;
    Buffer in, table, weights, out, tail;
};

/// While there is one, every call is recorded in it.
class Recorder {
  public:
    Recorder() { active = this; }
    Recorder(const Recorder &) = delete;
    Recorder &operator=(const Recorder &) = delete;
    ~Recorder() { active = nullptr; }

    static void add(const char *kernel, const std::array<const halide_buffer_t *, 5> &b) {
        if (active == nullptr) return;
        const std::lock_guard lock(active->mutex_);
        active->calls.push_back(
            {kernel, copy_of(*b[0]), copy_of(*b[1]), copy_of(*b[2]), copy_of(*b[3]), copy_of(*b[4])});
    }
    std::string order() const {
        std::string names;
        for (const Recorded &call : calls) names += (names.empty() ? "" : " ") + std::string(call.kernel);
        return names;
    }
    std::vector<Recorded> calls;

  private:
    static inline Recorder *active = nullptr;
    std::mutex mutex_;
};

// Kernels.

const float *floats(const halide_buffer_t *buffer) { return reinterpret_cast<const float *>(buffer->host); }
float *floats(halide_buffer_t *buffer) { return reinterpret_cast<float *>(buffer->host); }

/// Adds to every lane of `to`, whose first one is lane `first` of its group, what `value(group, lane, pixel)` says.
template <typename Value>
void write_planes(halide_buffer_t *to, int first, const Value &value) {
    const halide_dimension_t *d = to->dim;
    for (int g = 0; g < d[3].extent; ++g) {
        for (int plane = 0; plane < d[2].extent; ++plane) {
            for (int p = 0; p < d[1].extent; ++p) {
                for (int lane = 0; lane < d[0].extent; ++lane) {
                    floats(to)[g * d[3].stride + plane * d[2].stride + p * d[1].stride + lane * d[0].stride] =
                        value(g, first + plane * kPlane + lane, p);
                }
            }
        }
    }
}

/// bias[lanes], weights[lanes / panel][rows][panel] of a group.
struct Blob {
    const float *weights;
    int panel, rows, lanes;
    int stride() const { return lanes * (1 + rows); }
    float bias(int group, int lane) const { return weights[group * stride() + lane]; }
    float weight(int group, int lane, int row) const {
        return weights[group * stride() + lanes + (lane / panel * rows + row) * panel + lane % panel];
    }
};

/// Every lane of both outputs: bias and the sum over rows of weight times `input(group, row, pixel)`.
template <typename Input>
void convolve(const halide_buffer_t *weights, int rows, halide_buffer_t *out, halide_buffer_t *tail,
              const Input &input) {
    const int first_tail = out->dim[2].extent * kPlane;
    const Blob blob{floats(weights), kPlane, rows, first_tail + tail->dim[2].extent * kPlane};
    const auto value = [&](int g, int lane, int p) {
        float sum = blob.bias(g, lane);
        for (int row = 0; row < rows; ++row) sum += blob.weight(g, lane, row) * input(g, row, p);
        return sum;
    };
    write_planes(out, 0, value);
    write_planes(tail, first_tail, value);
}

int stem(const void *, halide_buffer_t *in, halide_buffer_t *table, halide_buffer_t *weights, halide_buffer_t *,
         halide_buffer_t *out, halide_buffer_t *tail) {
    Recorder::add("stem", {in, table, weights, out, tail});
    convolve(weights, 3, out, tail, [&](int, int row, int p) { return floats(in)[row * kPixels + p]; });
    return 0;
}

/// What the table's entry for a summand finds.
float through_table(const halide_buffer_t *in, const halide_buffer_t *table, int entry, int p) {
    const int32_t offset = reinterpret_cast<const int32_t *>(table->host)[entry];
    return floats(in)[offset + p * kPlane];
}

int pointwise(const void *, halide_buffer_t *in, halide_buffer_t *table, halide_buffer_t *weights, halide_buffer_t *,
              halide_buffer_t *out, halide_buffer_t *tail) {
    Recorder::add("pointwise", {in, table, weights, out, tail});
    const int rows = table->dim[0].extent / out->dim[3].extent;
    convolve(weights, rows, out, tail,
             [&](int g, int row, int p) { return through_table(in, table, g * rows + row, p); });
    return 0;
}

/// A pointwise convolution of the mean over all pixels.
int pooled(const void *, halide_buffer_t *in, halide_buffer_t *table, halide_buffer_t *weights, halide_buffer_t *,
           halide_buffer_t *out, halide_buffer_t *tail) {
    Recorder::add("pooled", {in, table, weights, out, tail});
    convolve(weights, table->dim[0].extent, out, tail, [&](int, int row, int) {
        float sum = 0;
        for (int p = 0; p < kPixels; ++p) sum += through_table(in, table, row, p);
        return sum / kPixels;
    });
    return 0;
}

int linear(const void *, halide_buffer_t *in, halide_buffer_t *table, halide_buffer_t *weights, halide_buffer_t *,
           halide_buffer_t *out, halide_buffer_t *tail) {
    Recorder::add("linear", {in, table, weights, out, tail});
    const int classes = out->dim[0].extent, panel = kPlane * kFcPanels, lanes = round_up(classes, panel);
    const int rows = weights->dim[0].extent / lanes - 1;
    const Blob blob{floats(weights), panel, rows, lanes};
    const int images = out->dim[1].extent, row_floats = images > 0 ? in->dim[0].extent / images : 0;
    for (int n = 0; n < images; ++n) {
        for (int c = 0; c < classes; ++c) {
            float sum = blob.bias(0, c);
            for (int row = 0; row < rows; ++row) sum += blob.weight(0, c, row) * floats(in)[n * row_floats + row];
            floats(out)[n * out->dim[1].stride + c] = sum;
        }
    }
    return 0;
}

int failing(const void *, halide_buffer_t *, halide_buffer_t *, halide_buffer_t *, halide_buffer_t *, halide_buffer_t *,
            halide_buffer_t *) {
    return -1;
}

// A network: 3 channels -> 20 -> 2 groups of 8 of 10 each -> 24, pooled -> classes.

constexpr int kStem = 20, kGroups = 2, kGroupIn = 10, kGroupOut = 8, kPooled = 24, kClasses = 70;
constexpr int kGroupsIn = kGroups * kGroupIn, kGroupsOut = kGroups * kGroupOut;
constexpr int kRow = 32;                     // kPooled in whole planes.
constexpr int kBody = 2 * kPlane * kPixels;  // After the stem's two planes.
constexpr int kArena = kBody + 2 * kPlane * kPixels;

/// Summation orders and lanes that are not channels' own.
constexpr std::array<int16_t, kGroupsIn> kOrder = {9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 2, 4, 6, 8, 1, 3, 5, 7, 9};
constexpr std::array<int16_t, kGroupsOut> kLanes = {7, 6, 5, 4, 3, 2, 1, 0, 17, 16, 19, 18, 21, 20, 23, 22};

/// Offset of a channel of the stem.
int stem_offset(int channel) { return channel / kPlane * kPlane * kPixels + channel % kPlane; }
/// Of a channel of the second layer, whose groups of 16 lanes have 8.
int body_offset(int channel) {
    const int group = kLanes[channel] / kPlane, lane = kLanes[channel] % kPlane;
    return kBody + group * kPlane * kPixels + lane;
}

struct Tables {
    alignas(64) std::array<int32_t, 48> entries{};
    std::array<int32_t, kStem> stem{};
    std::array<int32_t, kGroupsOut> body{};
    Tables() {
        for (int i = 0; i < kStem; ++i) stem[i] = stem_offset(i);
        for (int i = 0; i < kGroupsOut; ++i) body[i] = body_offset(i);
        for (int i = 0; i < kGroupsIn; ++i) entries[i] = stem[i / kGroupIn * kGroupIn + kOrder[i]];
        std::copy(body.begin(), body.end(), entries.begin() + 32);
    }
};
const Tables kTables;

constexpr std::array<shufflenet_shape, 4> kShapes = {{
    {SHUFFLENET_IMAGE, 0, 32 * 4, kPixels, 2, 1, SHUFFLENET_F32},
    {SHUFFLENET_ARENA, kGroups *kGroupIn, kGroups * 16 * 11, kPixels, 1, kGroups, SHUFFLENET_F32},
    {SHUFFLENET_ARENA, kGroups *kGroupOut, 32 * 17, 1, 2, 1, SHUFFLENET_F32},
    {SHUFFLENET_ROWS, 0, 128 * 25, 1, 0, 1, SHUFFLENET_F32},
}};
constexpr int64_t kBody0 = 128, kPooled0 = kBody0 + 352, kLinear0 = kPooled0 + 544, kWeights = kLinear0 + 3200;

constexpr std::array<shufflenet_call, 4> kCalls = {{
    {"stem_conv", 0, SHUFFLENET_TO_ARENA, 0, 0, 0},
    {"stage2_unit0", 1, SHUFFLENET_TO_ARENA, kBody, 0, kBody0},
    {"conv5", 2, SHUFFLENET_TO_ROW, 0, 32, kPooled0},
    {"fc", 3, SHUFFLENET_TO_OUTPUT, 0, 0, kLinear0},
}};

constexpr std::array<shufflenet_layer, 4> kLayers = {{
    {"conv1.0", "conv1.1", 0, 0, kStem, 3, 1, 1},
    {"body.0", "body.1", 0, 0, kGroups *kGroupOut, kGroupIn, 1, 1},
    {"conv5.0", "", 0, 1, kPooled, kGroups *kGroupOut, 1, 1},
    {"fc", "", 1, 1, kClasses, kPooled, 1, 1},
}};

constexpr std::array<shufflenet_pack, 4> kPacking = {{
    {16, 3, 32, 1, 128, 0, 32, 0, SHUFFLENET_F32, 1, 1, nullptr, nullptr, 0},
    {16, kGroupIn, 16, kGroups, 176, 0, 16, kBody0, SHUFFLENET_F32, 1, 0, kLanes.data(), kOrder.data(), kOrder.size()},
    {16, 16, 32, 1, 544, 0, 32, kPooled0, SHUFFLENET_F32, 1, 0, nullptr, nullptr, 0},
    {64, kPooled, 128, 1, 3200, 0, 128, kLinear0, SHUFFLENET_F32, 1, 0, nullptr, nullptr, 0},
}};

const std::array<shufflenet_output, 3> kOutputs = {{
    {"logits", kClasses, 1, 1, nullptr},
    {"stage2", kGroups *kGroupOut, kHeight, kWidth, kTables.body.data()},
    {"stem", kStem, kHeight, kWidth, kTables.stem.data()},
}};

const shufflenet_program kProgram = {
    kShapes.data(),
    kShapes.size(),
    kCalls.data(),
    kCalls.size(),
    3,
    kArena,
    kRow,
    kWeights,
    kTables.entries.data(),
    kTables.entries.size(),
    kLayers.data(),
    kPacking.data(),
    kLayers.size(),
    kOutputs.data(),
    kOutputs.size(),
    "",
};

constexpr std::array<shufflenet_kernel, 4> kKernels = {{
    {stem, {16, 4}},
    {pointwise, {8, 0}},
    {pooled, {24, 0}},
    {linear, {0, 0}},
}};

const char *baseline() {
#if defined(__x86_64__)
    return "sse41";
#else
    return "neon";
#endif
}

/// A descriptor with kernels of its own.
struct Built {
    std::array<shufflenet_kernel, 4> table = kKernels;
    shufflenet_program program = kProgram;
    shufflenet_kernels kernels{baseline(), table.data(), 1000};
    shufflenet_descriptor descriptor{SHUFFLENET_VERSION_NUMBER,
                                     "small",
                                     "net",
                                     kHeight,
                                     kWidth,
                                     kClasses,
                                     &program,
                                     &kernels,
                                     1,
                                     nullptr,
                                     nullptr,
                                     nullptr,
                                     nullptr,
                                     nullptr,
                                     0};
    Built() = default;
    Built(const Built &) = delete;
    Built &operator=(const Built &) = delete;
};

// Weights.

std::vector<float> random_floats(size_t count, unsigned seed, float least = -1) {
    std::mt19937 engine(seed);
    std::vector<float> values(count);
    for (float &value : values) value = std::uniform_real_distribution<float>(least, 1)(engine);
    return values;
}

struct NamedValues {
    std::string name;
    std::vector<int64_t> shape;
    std::vector<float> values;
};

std::vector<NamedValues> random_dict(std::span<const shufflenet_layer> layers, int classes = 0) {
    std::vector<NamedValues> dict;
    const auto add = [&](const std::string &name, const std::vector<int64_t> &shape, float least) {
        const auto count = std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
        dict.push_back({name, shape, random_floats(count, static_cast<unsigned>(dict.size()), least)});
    };
    for (const shufflenet_layer &layer : layers) {
        const std::string module = layer.module, norm = layer.norm;
        const int64_t out = classes > 0 && &layer == &layers.back() ? classes : layer.out_channels;
        std::vector<int64_t> shape = {out, layer.in_channels, layer.kernel_height, layer.kernel_width};
        if (layer.linear != 0) shape.resize(2);
        add(module + ".weight", shape, -1);
        if (layer.bias != 0) add(module + ".bias", {out}, -1);
        if (norm.empty()) continue;
        for (const char *field : {".weight", ".bias", ".running_mean", ".running_var"}) add(norm + field, {out}, 0.25F);
    }
    return dict;
}

std::vector<std::byte> to_file(const std::vector<NamedValues> &dict) {
    std::vector<Tensor> tensors;
    for (const NamedValues &t : dict) {
        const std::span<const std::byte> data = std::as_bytes(std::span(t.values));
        Tensor &tensor = tensors.emplace_back();
        tensor.name = t.name;
        tensor.dtype = "F32";
        tensor.shape = t.shape;
        tensor.data = data;
        tensor.bytes = data.size();
    }
    std::sort(tensors.begin(), tensors.end(), [](const Tensor &a, const Tensor &b) { return a.name < b.name; });
    return serialize_safetensors(tensors);
}

std::vector<std::byte> weights_file(int classes = kClasses) { return to_file(random_dict(kLayers, classes)); }

const std::vector<float> &values_of(const std::vector<NamedValues> &dict, const std::string &name) {
    const auto found = std::ranges::find(dict, name, &NamedValues::name);
    EXPECT_NE(found, dict.end()) << name;
    return found->values;
}

/// A layer's weights (out, in, ky, kx) and biases, folded.
struct Folded {
    std::vector<double> weights, bias;
};

Folded fold(const std::vector<NamedValues> &dict, const shufflenet_layer &layer) {
    const std::string module = layer.module, norm = layer.norm;
    const std::vector<float> &weights = values_of(dict, module + ".weight");
    Folded folded{{weights.begin(), weights.end()}, {}};
    if (norm.empty()) {
        const std::vector<float> &bias = values_of(dict, module + ".bias");
        folded.bias.assign(bias.begin(), bias.end());
        return folded;
    }
    const size_t row = weights.size() / layer.out_channels;
    for (int c = 0; c < layer.out_channels; ++c) {
        const double scale = values_of(dict, norm + ".weight")[c] /
                             std::sqrt(double{values_of(dict, norm + ".running_var")[c]} + kBatchNormEps);
        for (size_t i = 0; i < row; ++i) folded.weights[c * row + i] *= scale;
        folded.bias.push_back(values_of(dict, norm + ".bias")[c] - values_of(dict, norm + ".running_mean")[c] * scale);
    }
    return folded;
}

// The network, computed naively.

struct Expected {
    std::vector<double> logits, stage2, stem;  ///< Of one image, NCHW.
};

std::vector<double> convolved(const Folded &w, const std::vector<double> &in, int groups, int pixels) {
    const auto channels = static_cast<int>(w.bias.size());
    const auto summands = static_cast<int>(w.weights.size()) / channels;
    std::vector<double> out;
    for (int c = 0; c < channels; ++c) {
        const int first = c / (channels / groups) * summands;
        for (int p = 0; p < pixels; ++p) {
            double sum = w.bias[c];
            for (int i = 0; i < summands; ++i) sum += w.weights[c * summands + i] * in[(first + i) * pixels + p];
            out.push_back(sum);
        }
    }
    return out;
}

Expected compute(const std::vector<NamedValues> &dict, std::span<const float> image) {
    Expected e;
    e.stem = convolved(fold(dict, kLayers[0]), {image.begin(), image.end()}, 1, kPixels);
    e.stage2 = convolved(fold(dict, kLayers[1]), e.stem, kGroups, kPixels);
    std::vector<double> means(e.stage2.size() / kPixels);
    for (size_t i = 0; i < e.stage2.size(); ++i) means[i / kPixels] += e.stage2[i] / kPixels;
    e.logits = convolved(fold(dict, kLayers[3]), convolved(fold(dict, kLayers[2]), means, 1, 1), 1, 1);
    return e;
}

void expect_near(std::span<const float> found, const std::vector<double> &expected, const std::string &what) {
    ASSERT_EQ(found.size(), expected.size()) << what;
    for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 1e-3) << what << " " << i;
}

std::vector<float> images(int batch) { return random_floats(size_t(batch) * kImageFloats, 99); }

/// Opened with weights.
Model ready(const Built &built, int threads = 1, int classes = kClasses) {
    Model model;
    EXPECT_EQ(model.open(built.descriptor, threads).message(), "");
    EXPECT_EQ(model.load_weights(weights_file(classes), "weights").message(), "");
    return model;
}

/// All outputs of a batch.
struct Result {
    std::vector<float> logits, stage2, stem;
    bool operator==(const Result &) const = default;
};

Result run_all(Model &model, int batch, Layout layout = Layout::kNCHW) {
    Result r;
    r.logits.resize(batch * model.output_shape("logits").elements());
    r.stage2.resize(batch * model.output_shape("stage2").elements());
    r.stem.resize(batch * model.output_shape("stem").elements());
    const std::array<OutputRequest, 3> requests = {
        {{"stem", layout, r.stem}, {"logits", layout, r.logits}, {"stage2", layout, r.stage2}}};
    EXPECT_EQ(model.run(images(batch), batch, requests).message(), "");
    return r;
}

template <typename T>
std::span<const T> image_of(const std::vector<T> &all, int image, int batch) {
    return std::span(all).subspan(image * (all.size() / batch), all.size() / batch);
}

// Runs.

TEST(Run, ComputesWhatTheNetworkSays) {
    const Built built;
    Model model = ready(built);
    const int batch = 11;
    const Result result = run_all(model, batch);
    const std::vector<NamedValues> dict = random_dict(kLayers, kClasses);
    const std::vector<float> input = images(batch);
    for (int n = 0; n < batch; ++n) {
        const Expected expected = compute(dict, image_of(input, n, batch));
        expect_near(image_of(result.stem, n, batch), expected.stem, "stem");
        expect_near(image_of(result.stage2, n, batch), expected.stage2, "stage2");
        expect_near(image_of(result.logits, n, batch), expected.logits, "logits");
    }
}

TEST(Run, CallsInOrderAndLastOnesOnceAGroup) {
    const Built built;
    Model model = ready(built);
    const auto order_of = [&](int batch) {
        const Recorder recorder;
        run_all(model, batch);
        return recorder.order();
    };
    EXPECT_EQ(order_of(1), "stem pointwise pooled linear");
    EXPECT_EQ(order_of(2), "stem pointwise pooled stem pointwise pooled linear");
    const std::string nine = order_of(kImageGroup + 1);
    EXPECT_TRUE(nine.ends_with("pooled linear stem pointwise pooled linear")) << nine;
}

TEST(Run, WhatNobodyWantsOfAGroupIsNotComputed) {
    const Built built;
    Model model = ready(built);
    std::vector<float> stem(kStem * kPixels);
    const std::array<OutputRequest, 2> requests = {{{"stem", Layout::kNCHW, stem}, {"logits", Layout::kNCHW, {}}}};
    const Recorder recorder;
    ASSERT_TRUE(model.run(images(1), 1, requests).ok());
    EXPECT_EQ(recorder.order(), "stem pointwise pooled");
}

TEST(Run, BuffersAreAsTheDescriptorSays) {
    using Dims = std::vector<std::array<int, 2>>;
    const Built built;
    Model model = ready(built);
    const std::vector<float> input = images(3);
    std::vector<float> logits(3 * kClasses);
    const Recorder recorder;
    ASSERT_TRUE(model.run(input, 3, logits).ok());
    ASSERT_EQ(recorder.calls.size(), 10U);
    const Recorded &s = recorder.calls[3], &p = recorder.calls[4], &h = recorder.calls[5], &l = recorder.calls[9];

    EXPECT_EQ(s.in.host, input.data() + kImageFloats) << "the second image";
    EXPECT_EQ(s.in.dims, (Dims{{kImageFloats, 1}}));
    EXPECT_EQ(s.table.dims, (Dims{{0, 1}}));
    EXPECT_NE(s.table.host, nullptr) << "would ask for bounds";
    EXPECT_EQ(s.weights.dims, (Dims{{128, 1}}));
    EXPECT_EQ(s.out.dims, (Dims{{16, 1}, {kPixels, 16}, {1, 16 * kPixels}, {1, 32 * kPixels}}));
    EXPECT_EQ(s.tail.dims, (Dims{{4, 1}, {kPixels, 16}, {1, 16 * kPixels}, {1, 32 * kPixels}}));
    EXPECT_EQ(s.tail.host, s.out.host + 16 * kPixels);

    const float *arena = s.out.host;
    EXPECT_EQ(p.in.host, arena);
    EXPECT_EQ(p.in.dims, (Dims{{kArena, 1}}));
    EXPECT_EQ(static_cast<const void *>(p.table.host), kTables.entries.data());
    EXPECT_EQ(p.table.dims, (Dims{{kGroups * kGroupIn, 1}}));
    EXPECT_EQ(p.weights.host, s.weights.host + kBody0) << "one array";
    EXPECT_EQ(p.out.host, arena + kBody);
    EXPECT_EQ(p.out.dims, (Dims{{8, 1}, {kPixels, 16}, {1, 16 * kPixels}, {kGroups, 16 * kPixels}}));
    EXPECT_EQ(p.tail.dims, (Dims{{0, 1}, {kPixels, 16}, {0, 16 * kPixels}, {kGroups, 16 * kPixels}}));

    EXPECT_EQ(static_cast<const void *>(h.table.host), kTables.entries.data() + 32);
    EXPECT_EQ(h.out.host, arena + kArena + kRow) << "the second image's row, behind the activations";
    EXPECT_EQ(h.out.dims, (Dims{{16, 1}, {1, 16}, {2, 16}, {1, 32}}));

    EXPECT_EQ(l.in.host, arena + kArena);
    EXPECT_EQ(l.in.dims, (Dims{{3 * kRow, 1}}));
    EXPECT_EQ(l.weights.dims, (Dims{{3200, 1}}));
    EXPECT_EQ(l.out.host, logits.data());
    EXPECT_EQ(l.out.dims, (Dims{{kClasses, 1}, {3, kClasses}}));
    EXPECT_EQ(l.tail.dims, (Dims{{0, 1}, {0, 1}}));
    for (const Recorded *call : {&s, &p, &h, &l}) {
        for (const Buffer *buffer : {&call->in, &call->table, &call->weights, &call->out, &call->tail}) {
            EXPECT_EQ(buffer->bits, 32);
        }
    }
}

TEST(Run, AnyThreadCountComputesTheSame) {
    const Built built;
    Model one = ready(built);
    for (int threads = 2; threads <= 4; ++threads) {
        Model model = ready(built, threads);
        for (const int batch : {1, 2, 3, 4, 5, 8, 9, 17}) {
            EXPECT_EQ(run_all(model, batch), run_all(one, batch)) << threads << " threads, batch " << batch;
        }
    }
}

TEST(Run, LayoutsHoldTheSame) {
    const Built built;
    Model model = ready(built);
    const int batch = 3;
    const Result chw = run_all(model, batch), hwc = run_all(model, batch, Layout::kNHWC);
    EXPECT_EQ(chw.logits, hwc.logits);
    for (int n = 0; n < batch; ++n) {
        const auto a = image_of(chw.stem, n, batch), b = image_of(hwc.stem, n, batch);
        for (int c = 0; c < kStem; ++c) {
            for (int p = 0; p < kPixels; ++p) ASSERT_EQ(a[c * kPixels + p], b[p * kStem + c]);
        }
    }
}

TEST(Run, AnOutputMayBeWantedTwice) {
    const Built built;
    Model model = ready(built);
    const int batch = 9;
    std::vector<float> a(batch * kClasses), b(a.size());
    const std::array<OutputRequest, 2> requests = {{{"logits", Layout::kNCHW, a}, {"logits", Layout::kNHWC, b}}};
    ASSERT_TRUE(model.run(images(batch), batch, requests).ok());
    EXPECT_EQ(a, b);
    EXPECT_EQ(a, run_all(model, batch).logits);
}

TEST(Run, ViewShowsTheLastImage) {
    const Built built;
    for (const int threads : {1, 2, 3}) {
        Model model = ready(built, threads);
        OutputView view{};
        EXPECT_EQ(model.view("stage2", &view).message(), "view() before a run()");
        for (const int batch : {1, 2, 3, 8, 9}) {
            const Result result = run_all(model, batch);
            ASSERT_EQ(model.view("stage2", &view).message(), "");
            const auto last = image_of(result.stage2, batch - 1, batch);
            for (int c = 0; c < view.shape.channels; ++c) {
                for (int p = 0; p < kPixels; ++p) {
                    ASSERT_EQ(view.data[view.channel_offset[c] + p * view.pixel_stride], last[c * kPixels + p]);
                }
            }
        }
        EXPECT_NE(model.view("logits", &view).message().find("logits lies in the memory that run() was given"),
                  std::string::npos);
        EXPECT_NE(model.view("conv5", &view).message().find("found conv5"), std::string::npos);
        ASSERT_TRUE(model.load_weights(weights_file(), "weights").ok());
        EXPECT_FALSE(model.view("stage2", &view).ok()) << "of other weights";
    }
}

TEST(Run, BadArgumentsAreErrors) {
    const Built built;
    Model model;
    std::vector<float> input = images(2), logits(2 * kClasses), five(5);
    EXPECT_EQ(model.run(input, 2, logits).message(), "run() of a model that is not open");
    ASSERT_TRUE(model.open(built.descriptor).ok());
    EXPECT_EQ(model.run(input, 2, logits).message(), "small: run() before weights were loaded");
    ASSERT_TRUE(model.load_weights(weights_file(), "weights").ok());
    const auto message = [&](int batch, size_t floats, size_t out) {
        return model.run(std::span(input).first(floats), batch, std::span(logits).first(out)).message();
    };
    EXPECT_EQ(message(0, 0, 0), "batch: expected at least 1, found 0");
    EXPECT_EQ(message(2, kImageFloats, kClasses), "input: expected 90 floats, found 45");
    EXPECT_EQ(message(1, kImageFloats, kClasses - 1), "logits: expected 70 floats, found 69");
    EXPECT_EQ(message(1, kImageFloats, 0), "logits: expected 70 floats, found 0");

    const auto requested = [&](std::string_view name) {
        const OutputRequest request{name, Layout::kNCHW, five};
        return model.run(input, 2, {&request, 1}).message();
    };
    EXPECT_EQ(requested("stage2"), "stage2: expected 480 floats, found 5");
    EXPECT_EQ(requested("stage9"), "output of small: expected one of logits, stage2, stem, found stage9");
}

TEST(Run, FailingKernelIsNamed) {
    Built built;
    built.table[1].run = failing;
    for (const int threads : {1, 2}) {
        Model model = ready(built, threads);
        std::vector<float> logits(3 * kClasses);
        const Status status = model.run(images(3), 3, logits);
        EXPECT_EQ(status.code(), Code::kInternal);
        EXPECT_EQ(status.message(), "small: stage2_unit0: ");
    }
}

TEST(Run, AllocatesNothing) {
    if (!kCountsAllocations) GTEST_SKIP() << "a sanitizer counts them itself";
    const Built built;
    for (const int threads : {1, 3}) {
        Model model = ready(built, threads);
        const std::vector<float> input = images(9);
        std::vector<float> logits(9 * kClasses), stage2(9 * kGroups * kGroupOut * kPixels);
        const std::array<OutputRequest, 2> requests = {
            {{"logits", Layout::kNCHW, logits}, {"stage2", Layout::kNHWC, stage2}}};
        ASSERT_TRUE(model.run(input, 9, requests).ok());
        const long before = allocation_count();
        for (int i = 0; i < 3; ++i) ASSERT_TRUE(model.run(input, 9, requests).ok());
        for (int i = 0; i < 3; ++i) ASSERT_TRUE(model.run(input, 9, logits).ok());
        EXPECT_EQ(allocation_count(), before) << threads;
    }
}

TEST(Run, SharedModelsComputeTheSame) {
    const Built built;
    Model model = ready(built), other;
    ASSERT_TRUE(model.share(&other, 2).ok());
    EXPECT_EQ(run_all(model, 5), run_all(other, 5));
}

// Facts.

TEST(Info, IsTheDescriptors) {
    const Built built;
    const ModelInfo info = describe(built.descriptor);
    EXPECT_EQ(info.name, "small");
    EXPECT_EQ(info.network, "net");
    EXPECT_EQ(info.classes, kClasses);
    ASSERT_EQ(info.outputs.size(), 3U);
    EXPECT_EQ(info.outputs[0].name, "logits");
    EXPECT_EQ(info.outputs[0].shape.elements(), size_t{kClasses});
    EXPECT_EQ(info.outputs[1].shape.elements(), size_t{kGroups} * kGroupOut * kPixels);
    EXPECT_EQ(info.arena_bytes, sizeof(float) * (kArena + 8 * kRow) + 1000);
    EXPECT_FALSE(info.embedded_weights);
    Model model;
    EXPECT_TRUE(model.outputs().empty());
    EXPECT_EQ(model.output_shape("logits").elements(), 0U);
    ASSERT_TRUE(model.open(built.descriptor).ok());
    EXPECT_EQ(model.output_shape("nothing").elements(), 0U);
    EXPECT_EQ(model.output_shape("stem").channels, kStem);
    EXPECT_STREQ(model.isa(), baseline());
}

TEST(Descriptor, OfAnotherVersionIsAnErrorThatNamesBoth) {
    shufflenet_descriptor d{};  // Nothing else of it may be read.
    d.abi = 9'08'07;
    Model model;
    const std::string message = model.open(d).message();
    EXPECT_NE(message.find("expected one of version " SHUFFLENET_VERSION), std::string::npos) << message;
    EXPECT_NE(message.find("found one of version 9.8.7"), std::string::npos) << message;
    EXPECT_EQ(describe(d).name, "");
}

TEST(Descriptor, ConstantsThatAreNotAlignedAreAnError) {
    Built built;
    built.program.tables += 1;
    Model model;
    EXPECT_EQ(model.open(built.descriptor).code(), Code::kInternal);
}

// Weights.

TEST(Weights, FileDecidesTheClasses) {
    const Built built;
    for (const int classes : {1, 64, 65, 300}) {
        Model model = ready(built, 2, classes);
        EXPECT_EQ(model.classes(), classes);
        EXPECT_EQ(model.info().classes, classes);
        EXPECT_EQ(model.info().outputs[0].shape.channels, classes);
        const Result result = run_all(model, 2);
        const std::vector<NamedValues> dict = random_dict(kLayers, classes);
        const Expected expected = compute(dict, image_of(images(2), 1, 2));
        expect_near(image_of(result.logits, 1, 2), expected.logits, "logits");
    }
}

TEST(Weights, OfABackboneHaveNoClasses) {
    Built built;
    built.program.layers_count = 2;
    built.program.calls_count = built.program.image_calls = 2;
    built.program.row_floats = 0;
    built.program.weight_floats = kPooled0;
    built.program.outputs = &kOutputs[1];
    built.program.outputs_count = 2;
    built.descriptor.classes = 0;
    Model model;
    ASSERT_TRUE(model.open(built.descriptor, 2).ok());
    const std::vector<NamedValues> dict = random_dict(std::span(kLayers).first(2));
    ASSERT_EQ(model.load_weights(to_file(dict), "weights").message(), "");
    EXPECT_EQ(model.classes(), 0);
    std::vector<float> stage2(2 * kGroups * kGroupOut * kPixels);
    ASSERT_EQ(model.run(images(2), 2, stage2).message(), "") << "the first output";
    expect_near(image_of(stage2, 1, 2), compute(random_dict(kLayers), image_of(images(2), 1, 2)).stage2, "stage2");
}

TEST(Weights, WrongOnesAreNamedAndTheOldOnesStay) {
    const Built built;
    Model model = ready(built);
    const Result before = run_all(model, 1);
    std::vector<NamedValues> dict = random_dict(kLayers, kClasses);
    dict[0].name = "conv1.9.weight";
    EXPECT_EQ(model.load_weights(to_file(dict), "weights").message(),
              "weights: not weights of net: unexpected conv1.9.weight; missing conv1.0.weight");
    EXPECT_EQ(run_all(model, 1), before);
    EXPECT_EQ(model.load_embedded_weights().message(), "small: has no embedded weights");
}

/// The greatest magnitude of an output channel's weights.
double most_of(const Folded &folded, int channel, int count) {
    double most = 0;
    for (int i = 0; i < count; ++i) most = std::max(most, std::abs(folded.weights[channel * count + i]));
    return most;
}

/// Which weight of an output channel stands in a row: its number in the file.
int weight_in_row(const shufflenet_layer &layer, const shufflenet_pack &at, int channel, int row) {
    const int taps = layer.kernel_height * layer.kernel_width, in = layer.in_channels;
    const int per_group = at.order != nullptr ? layer.out_channels * in / at.order_count : layer.out_channels;
    const int i = at.taps_last != 0 ? row / taps : row % in, tap = at.taps_last != 0 ? row % taps : row / in;
    const int summand = at.order != nullptr ? at.order[channel / per_group * in + i] : i;
    return (channel * in + summand) * taps + tap;
}

/// A layer's recipe, read aloud.
void pack_naively(const shufflenet_layer &layer, const shufflenet_pack &at, const Folded &folded, float *blob) {
    for (int c = 0; c < layer.out_channels; ++c) {
        const int number = at.lane_of != nullptr ? at.lane_of[c] : c, lane = number % at.lanes;
        float *const group = blob + static_cast<ptrdiff_t>(number / at.lanes) * at.stride;
        auto *const weights = reinterpret_cast<std::byte *>(group + at.weights);
        group[at.bias + lane] = static_cast<float>(folded.bias[c]);
        const auto factor = static_cast<float>(most_of(folded, c, at.rows) / 32767);
        if (at.element == SHUFFLENET_S16) group[at.bias + at.lanes + lane] = factor;
        for (int row = 0; row < at.rows; ++row) {
            const auto weight = static_cast<float>(folded.weights[weight_in_row(layer, at, c, row)]);
            const int rows = round_up(at.rows, at.interleave), first = row / at.interleave * at.interleave;
            const int element =
                (lane / at.panel * rows + first) * at.panel + lane % at.panel * at.interleave + row % at.interleave;
            if (at.element == SHUFFLENET_S16) {
                const auto integer = static_cast<int16_t>(std::lround(double{weight} / factor));
                std::memcpy(weights + 2 * element, &integer, sizeof integer);
            } else {
                std::memcpy(weights + 4 * element, &weight, sizeof weight);
            }
        }
    }
}

std::vector<float> packed_naively(std::span<const shufflenet_layer> layers, std::span<const shufflenet_pack> recipe,
                                  const std::vector<NamedValues> &dict, size_t size) {
    std::vector<float> packed(size);
    for (size_t l = 0; l < layers.size(); ++l) {
        pack_naively(layers[l], recipe[l], fold(dict, layers[l]), packed.data() + recipe[l].blob);
    }
    return packed;
}

/// A last layer's elements, and its floats.
struct LastLayer {
    shufflenet_element element;
    int interleave, floats;
};

class Pack : public testing::TestWithParam<LastLayer> {};

TEST_P(Pack, FollowsTheRecipe) {
    const auto [element, interleave, floats] = GetParam();
    const std::array<shufflenet_layer, 5> layers = {{
        {"stem", "norm", 0, 0, 20, 3, 3, 3},
        {"depthwise", "norm2", 0, 0, 6, 1, 5, 3},
        {"grouped", "", 0, 1, 16, 10, 1, 1},
        {"dense", "norm3", 0, 0, 8, 5, 3, 3},
        {"fc", "", 1, 1, 33, 8, 1, 1},
    }};
    const std::array<int16_t, 6> lanes = {17, 2, 3, 20, 31, 0};
    const std::array<int16_t, 5> order = {4, 0, 3, 1, 2};
    const std::array<shufflenet_pack, 5> recipe = {{
        {16, 27, 32, 1, 32 * 28, 0, 32, 0, SHUFFLENET_F32, 1, 1, nullptr, nullptr, 0},
        {16, 15, 32, 1, 32 * 16, 0, 32, 896, SHUFFLENET_F32, 1, 0, lanes.data(), nullptr, 0},
        // Behind the one before, in the same blob.
        {16, 10, 16, 2, 16 * 11, 512, 528, 896, SHUFFLENET_F32, 1, 0, kLanes.data(), kOrder.data(), kOrder.size()},
        {16, 45, 16, 1, 16 * 46, 0, 16, 1760, SHUFFLENET_F32, 1, 0, nullptr, order.data(), order.size()},
        {64, 8, 64, 1, floats, 0, element == SHUFFLENET_F32 ? 64 : 128, 2496, element, interleave, 0, nullptr, nullptr,
         0},
    }};
    const shufflenet_call fc{"fc", 0, SHUFFLENET_TO_OUTPUT, 0, 0, 2496};
    shufflenet_program program{};
    program.calls = &fc;
    program.calls_count = 1;
    program.layers = layers.data();
    program.packing = recipe.data();
    program.layers_count = layers.size();
    program.weight_floats = 2496 + floats;
    const std::vector<NamedValues> dict = random_dict(layers);
    const std::vector<std::byte> bytes = to_file(dict);
    Safetensors file;
    ASSERT_TRUE(Safetensors::parse(bytes, "file", &file).ok());
    PackedWeights packed;
    ASSERT_EQ(pack_weights(file, "file", "net", program, &packed).message(), "");
    EXPECT_EQ(packed.classes, 33);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(packed.floats.data()) % 64, 0U);
    const std::vector<float> expected = packed_naively(layers, recipe, dict, program.weight_floats);
    ASSERT_EQ(packed.floats.size(), expected.size());
    // Bytes: two integers may be a float that is no number.
    EXPECT_EQ(std::memcmp(packed.floats.data(), expected.data(), sizeof(float) * expected.size()), 0);
}

// 64 biases, of integers 64 factors, and 8 rows of 64 elements, with an interleave of 3 padded to 9.
INSTANTIATE_TEST_SUITE_P(Elements, Pack,
                         testing::Values(LastLayer{SHUFFLENET_F32, 1, 64 + 512},
                                         LastLayer{SHUFFLENET_S16, 1, 128 + 256},
                                         LastLayer{SHUFFLENET_S16, 2, 128 + 256},
                                         LastLayer{SHUFFLENET_F32, 3, 64 + 576},
                                         LastLayer{SHUFFLENET_S16, 3, 128 + 288}));

TEST(Weights, EmbeddedOnesMayBePackedAlready) {
    Built built;
    const std::vector<std::byte> bytes = weights_file();
    Safetensors file;
    ASSERT_TRUE(Safetensors::parse(bytes, "file", &file).ok());
    PackedWeights packed;
    ASSERT_TRUE(pack_weights(file, "file", "net", built.program, &packed).ok());
    ASSERT_EQ(packed.floats.size(), size_t{kWeights});
    built.descriptor.packed = packed.floats.data();
    EXPECT_TRUE(describe(built.descriptor).embedded_weights);
    Model model, loaded = ready(built);
    ASSERT_TRUE(model.open(built.descriptor, 2).ok());
    ASSERT_EQ(model.load_embedded_weights().message(), "");
    EXPECT_EQ(model.classes(), kClasses);
    EXPECT_EQ(run_all(model, 3), run_all(loaded, 3));
}

TEST(Weights, EmbeddedFileIsPackedWhenItIsLoaded) {
    Built built;
    const std::vector<std::byte> bytes = weights_file(64);
    built.descriptor.weights = reinterpret_cast<const unsigned char *>(bytes.data());
    built.descriptor.weights_end = built.descriptor.weights + bytes.size();
    Model model, loaded = ready(built, 1, 64);
    ASSERT_TRUE(model.open(built.descriptor).ok());
    ASSERT_EQ(model.load_embedded_weights().message(), "");
    EXPECT_EQ(model.classes(), 64);
    EXPECT_EQ(run_all(model, 3), run_all(loaded, 3));
}

// The C interface.

TEST(CInterface, RunsTheFirstOutputOrAll) {
    Built built;
    const std::vector<std::byte> bytes = weights_file();
    built.descriptor.weights = reinterpret_cast<const unsigned char *>(bytes.data());
    built.descriptor.weights_end = built.descriptor.weights + bytes.size();
    CModel *model = nullptr, *other = nullptr;
    ASSERT_EQ(c_open(built.descriptor, &model, nullptr, 1, nullptr, 0), 0);
    ASSERT_EQ(c_share(*model, &other, 1, nullptr, 0), 0);
    Model cpp = ready(built);
    const Result expected = run_all(cpp, 2);
    std::vector<float> logits(2 * kClasses), stem(2 * kStem * kPixels);
    EXPECT_EQ(c_run(*model, images(2).data(), 2, logits.data()), 0);
    EXPECT_EQ(logits, expected.logits);
    const std::array<float *, 3> outputs = {nullptr, nullptr, stem.data()};
    EXPECT_EQ(c_run_outputs(*other, images(2).data(), 2, outputs.data()), 0);
    EXPECT_EQ(stem, expected.stem);
    EXPECT_EQ(c_run(*model, nullptr, 0, nullptr), static_cast<int>(Code::kBadInput));
    EXPECT_EQ(model->error, "batch: expected at least 1, found 0");
    delete model;
    delete other;
}

}  // namespace
}  // namespace shufflenet
