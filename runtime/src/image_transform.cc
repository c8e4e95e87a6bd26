// Resize, crop and normalisation, bit for bit those of torchvision on PIL images.
//
// PIL's antialiased bilinear resize is separable: each output pixel is a weighted mean of a window of input pixels
// along x, rounded to 8 bits, then of the same along y. No output pixel depends on another one, so preprocess()
// computes only those that the crop keeps.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "finite.h"
#include "image_decoders.h"
#include "message.h"
#include "shufflenet/image.h"

namespace shufflenet::inline SHUFFLENET_ABI {
namespace {

using detail::kMaxPixels;
using detail::kRgb;

/// PIL's fixed point: 8 bits of pixel and 2 of headroom beside the weight.
constexpr int kWeightBits = 32 - 8 - 2;
constexpr int32_t kRounding = 1 << (kWeightBits - 1);

/// Part of an image, in pixels.
struct Window {
    int left = 0, top = 0, width = 0, height = 0;
};

struct Extent {
    int width = 0, height = 0;
};

/// Low part of a weight, so that both parts fit 16 bits: weight = high << kLowBits | low.
constexpr int kLowBits = 8;

/// The weights of two neighbouring inputs, split.
struct WeightPair {
    std::array<int16_t, 2> high{}, low{};

    void set(int i, int32_t weight) {
        high[i] = static_cast<int16_t>(weight >> kLowBits);
        low[i] = static_cast<int16_t>(weight & ((1 << kLowBits) - 1));
    }
};

/// How one axis is resampled: output i is the sum of 2 * pairs inputs from first[i] on, times weights_of(i). All
/// outputs have as many pairs, with weights of 0 in the end, because a loop of constant length is predicted well; so
/// the inputs are read up to `overrun` beyond the last one.
struct Axis {
    std::vector<int> first;
    std::vector<WeightPair> weights;
    int pairs = 0;
    int begin = 0, end = 0;  ///< The inputs that have a weight: [begin, end).

    const WeightPair *weights_of(size_t i) const { return weights.data() + i * pairs; }
    size_t overrun() const { return size_t{2} * pairs; }
};

/// PIL's precompute_coeffs and normalize_coeffs_8bpc for its bilinear (triangle) filter, of the outputs
/// [begin, begin + count) of `out_size`. Every operation and its order are PIL's: the weights must come out equal.
Axis make_axis(int in_size, int out_size, int begin, int count) {
    const double scale = static_cast<double>(in_size) / out_size;
    const double filter_scale = std::max(scale, 1.0);
    const double support = filter_scale;
    Axis axis;
    axis.pairs = static_cast<int>(support) + 1;  // Rounding the window's ends gives it up to ceil(2 * support) taps.
    axis.first.resize(count);
    axis.weights.resize(size_t(axis.pairs) * count);
    std::vector<double> weights(axis.overrun());
    // NOLINTBEGIN(bugprone-incorrect-roundings): PIL rounds so, also below zero.
    for (int i = 0; i < count; ++i) {
        const double center = (begin + i + 0.5) * scale;
        const int first = std::max(static_cast<int>(center - support + 0.5), 0);
        const int taps = std::min(static_cast<int>(center + support + 0.5), in_size) - first;
        double sum = 0;
        for (int t = 0; t < taps; ++t) {
            weights[t] = std::max(1.0 - std::abs((t + first - center + 0.5) * (1.0 / filter_scale)), 0.0);
            sum += weights[t];
        }
        for (int t = 0; t < taps; ++t) {
            const auto weight = static_cast<int32_t>(0.5 + weights[t] / sum * (1 << kWeightBits));
            axis.weights[size_t(i) * axis.pairs + t / 2].set(t % 2, weight);
        }
        axis.first[i] = first;
        axis.end = first + taps;
    }
    // NOLINTEND(bugprone-incorrect-roundings)
    axis.begin = axis.first.front();
    return axis;
}

/// Bytes that weigh() handles at once: the widest that also suits single pixels. It reads and writes whole lanes.
constexpr size_t kLanes = 4;

#ifdef __SSE2__

__m128i load_lanes(const uint8_t *in) {
    int lanes = 0;
    std::memcpy(&lanes, in, kLanes);
    return _mm_cvtsi32_si128(lanes);
}

/// The weighted mean, rounded, of 2 * `pairs` inputs that lie `step` bytes apart; each kLanes bytes, as is `out`.
void weigh(const uint8_t *in, size_t step, const WeightPair *weights, int pairs, uint8_t *out) {
    // Sums of the low parts may wrap around; the total does not, so it comes out right.
    const __m128i zero = _mm_setzero_si128();
    __m128i high = zero, low = _mm_set1_epi32(kRounding);
    for (int p = 0; p < pairs; ++p, in += 2 * step) {
        const __m128i bytes = _mm_unpacklo_epi8(load_lanes(in), load_lanes(in + step));
        const __m128i inputs = _mm_unpacklo_epi8(bytes, zero);
        const __m128i weight = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(&weights[p]));
        high = _mm_add_epi32(high, _mm_madd_epi16(inputs, _mm_shuffle_epi32(weight, 0x00)));
        low = _mm_add_epi32(low, _mm_madd_epi16(inputs, _mm_shuffle_epi32(weight, 0x55)));
    }
    const __m128i sums = _mm_srai_epi32(_mm_add_epi32(_mm_slli_epi32(high, kLowBits), low), kWeightBits);
    const __m128i words = _mm_packs_epi32(sums, sums);
    const int lanes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
    std::memcpy(out, &lanes, kLanes);
}

#else

/// The weighted mean, rounded, of 2 * `pairs` inputs that lie `step` bytes apart; each kLanes bytes, as is `out`.
void weigh(const uint8_t *in, size_t step, const WeightPair *weights, int pairs, uint8_t *out) {
    std::array<int32_t, kLanes> sums{};
    sums.fill(kRounding);
    for (int p = 0; p < 2 * pairs; ++p, in += step) {
        const int32_t weight = weights[p / 2].high[p % 2] << kLowBits | weights[p / 2].low[p % 2];
        for (size_t i = 0; i < kLanes; ++i) sums[i] += in[i] * weight;
    }
    for (size_t i = 0; i < kLanes; ++i) out[i] = static_cast<uint8_t>(std::min(sums[i] >> kWeightBits, 255));
}

#endif

/// The rows of `in` that `y_axis` needs, resampled along x, with room to be read beyond the last one.
std::vector<uint8_t> resample_rows(const Image &in, const Axis &x_axis, const Axis &y_axis) {
    const size_t outputs = x_axis.first.size(), rows = y_axis.end - y_axis.begin;
    std::vector<uint8_t> out((rows + y_axis.overrun()) * outputs * kRgb + kLanes);
    const size_t row_bytes = size_t(in.width) * kRgb;
    std::vector<uint8_t> row(row_bytes + x_axis.overrun() * kRgb + kLanes);  // A copy, for the same reason.
    uint8_t *to = out.data();
    for (size_t y = y_axis.begin; y < static_cast<size_t>(y_axis.end); ++y) {
        std::copy_n(in.pixels.data() + y * row_bytes, row_bytes, row.data());
        for (size_t x = 0; x < outputs; ++x, to += kRgb) {
            weigh(row.data() + size_t(x_axis.first[x]) * kRgb, kRgb, x_axis.weights_of(x), x_axis.pairs, to);
        }
    }
    return out;
}

/// The pixels of `window` of the image that `in` becomes when resized to `size`.
/// PIL skips a pass that keeps the size. Here it runs: its weights are 1 and 0, and it changes nothing.
std::vector<uint8_t> resample(const Image &in, Extent size, Window window) {
    const Axis x_axis = make_axis(in.width, size.width, window.left, window.width);
    const Axis y_axis = make_axis(in.height, size.height, window.top, window.height);
    const std::vector<uint8_t> rows = resample_rows(in, x_axis, y_axis);
    const size_t stride = size_t(window.width) * kRgb;
    std::vector<uint8_t> out(stride * window.height + kLanes);
    for (int y = 0; y < window.height; ++y) {
        const uint8_t *from = rows.data() + (y_axis.first[y] - y_axis.begin) * stride;
        uint8_t *to = out.data() + y * stride;
        for (size_t i = 0; i < stride; i += kLanes) {
            weigh(from + i, stride, y_axis.weights_of(y), y_axis.pairs, to + i);
        }
    }
    out.resize(stride * window.height);
    return out;
}

std::string size_text(int64_t width, int64_t height) {
    return std::to_string(width) + " x " + std::to_string(height) + " pixels";
}

Status check_image(const Image &image) {
    const int64_t pixels = int64_t{image.width} * image.height;
    if (image.width <= 0 || image.height <= 0 || pixels > kMaxPixels) {
        return message::bad_input("image", "expected 1 to " + std::to_string(kMaxPixels) + " pixels, found " +
                                               size_text(image.width, image.height));
    }
    if (image.pixels.size() != static_cast<size_t>(pixels) * kRgb) {
        return message::bad_input("image", "expected " + std::to_string(pixels * kRgb) + " bytes for " +
                                               size_text(image.width, image.height) + ", found " +
                                               std::to_string(image.pixels.size()));
    }
    return {};
}

Status check_crop(int height, int width) {
    if (width <= 0 || height <= 0 || int64_t{width} * height > kMaxPixels) {
        return message::bad_input(
            "crop", "expected 1 to " + std::to_string(kMaxPixels) + " pixels, found " + size_text(width, height));
    }
    return {};
}

/// torchvision's size rule: the short side becomes `size`, the long side keeps the aspect ratio, rounded down.
Status resized_extent(const Image &image, int size, Extent *out) {
    if (size <= 0) return message::bad_input("resize", "expected a positive size, found " + std::to_string(size));
    const int short_side = std::min(image.width, image.height);
    const int long_side = std::max(image.width, image.height);
    const double resized_long = std::floor(static_cast<double>(int64_t{size} * long_side) / short_side);
    if (resized_long * size > static_cast<double>(kMaxPixels)) {
        return message::bad_input("resize", "expected at most " + std::to_string(kMaxPixels) +
                                                " pixels after resizing " + size_text(image.width, image.height) +
                                                " to a short side of " + std::to_string(size));
    }
    const int other = static_cast<int>(resized_long);
    *out = image.width <= image.height ? Extent{size, other} : Extent{other, size};
    return {};
}

/// One axis of torchvision's center_crop: the part of the image that is kept, and the zeros before it.
struct CropSpan {
    int begin = 0, count = 0, padding = 0;
};

CropSpan crop_span(int size, int crop) {
    if (crop >= size) return {0, size, (crop - size) / 2};
    // Python's round(): a half goes to the even neighbour, as nearbyint() does.
    return {static_cast<int>(std::nearbyint((size - crop) / 2.0)), crop, 0};
}

/// Where the crop of `size` takes its pixels from, and where they go.
struct Crop {
    Window window;
    int pad_left = 0, pad_top = 0;
};

Crop make_crop(Extent size, int height, int width) {
    const CropSpan x = crop_span(size.width, width), y = crop_span(size.height, height);
    return {{x.begin, y.begin, x.count, y.count}, x.padding, y.padding};
}

Status check_normalisation(const Preprocess &how) {
    for (int c = 0; c < kRgb; ++c) {
        if (!is_finite(how.mean[c])) {
            return message::bad_input("mean", "expected finite numbers, found " + std::to_string(how.mean[c]));
        }
        if (!is_finite(how.std[c]) || how.std[c] == 0) {
            return message::bad_input("std",
                                      "expected finite numbers other than 0, found " + std::to_string(how.std[c]));
        }
    }
    return {};
}

using LevelTable = std::array<float, 256>;

/// The normalised value of each level, as ToTensor and Normalize compute it.
LevelTable make_level_table(float mean, float std) {
    LevelTable table{};
    for (int level = 0; level < 256; ++level) {
        const float value = static_cast<float>(level) / 255.0F;
        table[level] = (value - mean) / std;
    }
    return table;
}

/// Normalises the pixels of a crop to three zero-padded planes.
void fill_planes(const std::vector<uint8_t> &pixels, const Crop &crop, const Preprocess &how, float *planes) {
    const size_t plane = size_t(how.crop_height) * how.crop_width;
    const Window &window = crop.window;
    for (int c = 0; c < kRgb; ++c) {
        const LevelTable table = make_level_table(how.mean[c], how.std[c]);
        if (window.width < how.crop_width || window.height < how.crop_height) {
            std::fill_n(planes + c * plane, plane, table[0]);
        }
        for (int y = 0; y < window.height; ++y) {
            const uint8_t *in = pixels.data() + size_t(y) * window.width * kRgb + c;
            float *out = planes + c * plane + size_t(y + crop.pad_top) * how.crop_width + crop.pad_left;
            for (int x = 0; x < window.width; ++x) out[x] = table[in[x * kRgb]];
        }
    }
}

}  // namespace

Status resize_short_side(const Image &in, int size, Image *out) try {
    if (Status status = check_image(in); !status.ok()) return status;
    Extent extent;
    if (Status status = resized_extent(in, size, &extent); !status.ok()) return status;
    std::vector<uint8_t> pixels = extent.width == in.width && extent.height == in.height
                                      ? in.pixels
                                      : resample(in, extent, {0, 0, extent.width, extent.height});
    *out = {extent.width, extent.height, std::move(pixels)};
    return {};
} catch (...) {
    return message::from_exception("resize");
}

Status center_crop(const Image &in, int height, int width, Image *out) try {
    if (Status status = check_image(in); !status.ok()) return status;
    if (Status status = check_crop(height, width); !status.ok()) return status;
    const Crop crop = make_crop({in.width, in.height}, height, width);
    std::vector<uint8_t> pixels(size_t(width) * height * kRgb);
    for (int y = 0; y < crop.window.height; ++y) {
        const size_t from = size_t(y + crop.window.top) * in.width + crop.window.left;
        const size_t to = size_t(y + crop.pad_top) * width + crop.pad_left;
        std::copy_n(&in.pixels[from * kRgb], size_t(crop.window.width) * kRgb, &pixels[to * kRgb]);
    }
    *out = {width, height, std::move(pixels)};
    return {};
} catch (...) {
    return message::from_exception("crop");
}

Status preprocess(const Image &image, const Preprocess &how, std::span<float> input) try {
    if (Status status = check_image(image); !status.ok()) return status;
    if (Status status = check_crop(how.crop_height, how.crop_width); !status.ok()) return status;
    if (Status status = check_normalisation(how); !status.ok()) return status;
    Extent extent;
    if (Status status = resized_extent(image, how.resize, &extent); !status.ok()) return status;
    const size_t plane = size_t(how.crop_height) * how.crop_width;
    if (input.size() != plane * kRgb) {
        return message::bad_input("input", "expected room for " + std::to_string(plane * kRgb) + " floats, found " +
                                               std::to_string(input.size()));
    }
    const Crop crop = make_crop(extent, how.crop_height, how.crop_width);
    const std::vector<uint8_t> pixels = resample(image, extent, crop.window);
    fill_planes(pixels, crop, how, input.data());
    return {};
} catch (...) {
    return message::from_exception("preprocess");
}

}  // namespace shufflenet
