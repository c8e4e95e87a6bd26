// Image reading and preprocessing: against naive arithmetic, against PIL, and with files that are broken.
#include "shufflenet/image.h"

#include <sys/wait.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <jpeglib.h>

#include <gtest/gtest.h>
#include <png.h>

#include "host_environment.h"

namespace shufflenet {
namespace {

using Bytes = std::vector<uint8_t>;

// Images and files made here

Image make_image(int width, int height, const std::function<int(int x, int y, int c)> &level) {
    Image image{width, height, {}};
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
            for (int c = 0; c < 3; ++c) image.pixels.push_back(static_cast<uint8_t>(level(x, y, c)));
        }
    }
    return image;
}

Image noise(int width, int height) {
    std::mt19937 random(static_cast<unsigned>(width * 1000 + height));
    return make_image(width, height, [&](int, int, int) { return static_cast<int>(random() % 256); });
}

Image gradient(int width, int height) {
    return make_image(width, height, [&](int x, int y, int c) {
        return c == 0 ? 255 * x / width : c == 1 ? 255 * y / height : (x * 7 + y * 3) % 256;
    });
}

Bytes to_bytes(const std::string &text) { return {text.begin(), text.end()}; }

Bytes joined(Bytes a, const Bytes &b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

/// The first bytes of a file.
Bytes head(const Bytes &file, size_t size) { return {file.begin(), file.begin() + static_cast<ptrdiff_t>(size)}; }

Bytes with_bytes(Bytes file, size_t at, const Bytes &bytes) {
    std::copy(bytes.begin(), bytes.end(), file.begin() + static_cast<ptrdiff_t>(at));
    return file;
}

size_t find(const Bytes &file, const Bytes &part) {
    return static_cast<size_t>(std::search(file.begin(), file.end(), part.begin(), part.end()) - file.begin());
}

Bytes ppm_file(const Image &image) {
    const std::string size = std::to_string(image.width) + " " + std::to_string(image.height);
    return joined(to_bytes("P6\n" + size + "\n255\n"), image.pixels);
}

/// Bottom-up, 24 bits.
Bytes bmp_file(const Image &image) {
    const int row = image.width * 3, stride = (row + 3) / 4 * 4;
    Bytes file(54 + static_cast<size_t>(stride) * image.height);
    const auto put = [&](size_t at, uint32_t value) {
        for (size_t i = 0; i < 4; ++i) file[at + i] = static_cast<uint8_t>(value >> (8 * i));
    };
    put(0, 'B' | 'M' << 8);
    put(10, 54);
    put(14, 40);
    put(18, static_cast<uint32_t>(image.width));
    put(22, static_cast<uint32_t>(image.height));
    put(26, 1 | 24 << 16);
    for (int y = 0; y < image.height; ++y) {
        for (int i = 0; i < row; ++i) {
            file[54 + (image.height - 1 - y) * stride + i] = image.pixels[y * row + i / 3 * 3 + 2 - i % 3];
        }
    }
    return file;
}

Bytes png_file(const Image &image, png_uint_32 format = PNG_FORMAT_RGB, const void *pixels = nullptr) {
    png_image png{};
    png.version = PNG_IMAGE_VERSION;
    png.width = static_cast<png_uint_32>(image.width);
    png.height = static_cast<png_uint_32>(image.height);
    png.format = format;
    const void *data = pixels == nullptr ? image.pixels.data() : pixels;
    png_alloc_size_t size = 0;
    png_image_write_get_memory_size(png, size, 0, data, 0, nullptr);
    Bytes file(size);
    EXPECT_NE(png_image_write_to_memory(&png, file.data(), &size, 0, data, 0, nullptr), 0) << png.message;
    file.resize(size);
    return file;
}

Bytes jpeg_file(const Image &image, bool progressive = false, int components = 3) {
    jpeg_compress_struct jpeg{};
    jpeg_error_mgr errors{};
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    unsigned char *memory = nullptr;
    unsigned long size = 0;
    jpeg_mem_dest(&jpeg, &memory, &size);
    jpeg.image_width = static_cast<JDIMENSION>(image.width * 3 / components);
    jpeg.image_height = static_cast<JDIMENSION>(image.height);
    jpeg.input_components = components;
    jpeg.in_color_space = components == 3 ? JCS_RGB : JCS_UNKNOWN;
    jpeg_set_defaults(&jpeg);
    if (progressive) jpeg_simple_progression(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    for (int y = 0; y < image.height; ++y) {
        auto *row = const_cast<uint8_t *>(&image.pixels[static_cast<size_t>(y) * image.width * 3]);
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    Bytes file(memory, memory + size);
    jpeg_destroy_compress(&jpeg);
    std::free(memory);
    return file;
}

/// Both bytes of each number.
Bytes words(bool big_endian, const std::vector<int> &numbers) {
    Bytes bytes;
    for (const int number : numbers) {
        const auto high = static_cast<uint8_t>(number >> 8), low = static_cast<uint8_t>(number);
        big_endian ? bytes.insert(bytes.end(), {high, low}) : bytes.insert(bytes.end(), {low, high});
    }
    return bytes;
}

/// EXIF data with two entries, of which the second is the orientation.
Bytes exif_data(int orientation, bool big_endian) {
    const Bytes order = to_bytes(big_endian ? "MM" : "II");
    const std::vector<int> offset = big_endian ? std::vector{0, 8} : std::vector{8, 0};
    const std::vector<int> one = big_endian ? std::vector{0, 1} : std::vector{1, 0};
    Bytes data = joined(order, words(big_endian, {42, offset[0], offset[1], 2}));
    data = joined(data, words(big_endian, {0x0103, 3, one[0], one[1], 6, 0}));
    return joined(data, words(big_endian, {0x0112, 3, one[0], one[1], orientation, 0, 0, 0}));
}

/// A JPEG file with one more marker, as its first.
Bytes with_marker(const Bytes &jpeg, uint8_t kind, const Bytes &data) {
    const Bytes marker = joined(joined({0xFF, kind}, words(true, {static_cast<int>(data.size()) + 2})), data);
    return joined(joined(head(jpeg, 2), marker), {jpeg.begin() + 2, jpeg.end()});
}

Bytes with_exif(const Bytes &jpeg, const Bytes &exif) {
    return with_marker(jpeg, 0xE1, joined({'E', 'x', 'i', 'f', 0, 0}, exif));
}

/// A progressive JPEG whose last scan comes `times` times.
Bytes jpeg_of_scans(const Bytes &progressive, int times) {
    const Bytes start_of_scan = {0xFF, 0xDA}, end_of_image = {0xFF, 0xD9};
    const auto scan = std::find_end(progressive.begin(), progressive.end(), start_of_scan.begin(), start_of_scan.end());
    const Bytes last(scan, progressive.end() - 2);
    Bytes file(progressive.begin(), scan);
    for (int i = 0; i < times; ++i) file = joined(std::move(file), last);
    return joined(std::move(file), end_of_image);
}

// Comparison

int max_difference(const Bytes &a, const Bytes &b) {
    if (a.size() != b.size()) return 256;
    int most = 0;
    for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
    return most;
}

/// Antialiased bilinear resampling of one axis in double precision, without rounding: `at(i)` is the i-th input.
double naive_sample(const std::function<double(int)> &at, int in_size, int out_size, int index) {
    const double scale = static_cast<double>(in_size) / out_size;
    const double width = std::max(scale, 1.0), center = (index + 0.5) * scale;
    double sum = 0, weights = 0;
    for (int i = 0; i < in_size; ++i) {
        const double weight = std::max(0.0, 1.0 - std::abs(i + 0.5 - center) / width);
        sum += weight * at(i);
        weights += weight;
    }
    return sum / weights;
}

/// The largest distance of `resized` from naive resampling of `in`.
double distance_from_naive(const Image &in, const Image &resized) {
    double most = 0;
    for (int c = 0; c < 3; ++c) {
        std::vector<double> rows(static_cast<size_t>(in.height) * resized.width);
        for (int y = 0; y < in.height; ++y) {
            for (int x = 0; x < resized.width; ++x) {
                const auto at = [&](int i) { return double{in.pixels[(size_t(y) * in.width + i) * 3 + c] * 1.0}; };
                rows[size_t(y) * resized.width + x] = naive_sample(at, in.width, resized.width, x);
            }
        }
        for (int y = 0; y < resized.height; ++y) {
            for (int x = 0; x < resized.width; ++x) {
                const auto at = [&](int i) { return rows[size_t(i) * resized.width + x]; };
                const double expected = naive_sample(at, in.height, resized.height, y);
                const int found = resized.pixels[(size_t(y) * resized.width + x) * 3 + c];
                most = std::max(most, std::abs(expected - found));
            }
        }
    }
    return most;
}

// Resize

struct ResizeCase {
    int width, height, size, resized_width, resized_height;
};

TEST(Resize, MatchesNaiveReference) {
    // Each of the two passes rounds its result, by at most 0.5; the second averages what the first one rounded, so
    // the errors add up to 1. Weights of 22 bits add less than 0.001.
    constexpr double kTolerance = 1.001;
    const std::vector<ResizeCase> cases = {
        {7, 5, 3, 4, 3},        {40, 30, 20, 26, 20}, {30, 41, 20, 20, 27}, {33, 33, 32, 32, 32},
        {1, 9, 4, 4, 36},       {9, 1, 2, 18, 2},     {1, 1, 5, 5, 5},      {2, 3, 64, 64, 96},
        {101, 37, 12, 32, 12},  {300, 3, 1, 100, 1},  {63, 64, 64, 64, 65}, {50, 200, 49, 49, 196},
        {127, 11, 10, 115, 10},
    };
    for (const ResizeCase &c : cases) {
        for (const Image &in : {gradient(c.width, c.height), noise(c.width, c.height)}) {
            SCOPED_TRACE(testing::Message() << c.width << " x " << c.height << " to " << c.size);
            Image out;
            const Status status = resize_short_side(in, c.size, &out);
            ASSERT_TRUE(status.ok()) << status.message();
            ASSERT_EQ(out.width, c.resized_width);
            ASSERT_EQ(out.height, c.resized_height);
            EXPECT_LE(distance_from_naive(in, out), kTolerance);
        }
    }
}

TEST(Resize, IsBitExact) {
    // What PIL 9.4 makes of this image; here so that a machine without PIL notices a rounding that differs.
    const Image in = make_image(5, 4, [](int x, int y, int c) { return (x * 53 + y * 91 + c * 29) % 256; });
    Image out;
    ASSERT_TRUE(resize_short_side(in, 3, &out).ok());
    EXPECT_EQ(out.pixels, (Bytes{50,  79,  108, 133, 145, 174, 173, 169, 95,  160, 134, 163, 143, 115,
                                 144, 125, 99,  128, 89,  85,  114, 113, 125, 154, 179, 105, 134}));
}

TEST(Resize, KeepsConstantImages) {
    for (const int level : {0, 1, 127, 254, 255}) {
        for (const int size : {1, 3, 40, 57, 200}) {
            Image out;
            ASSERT_TRUE(resize_short_side(make_image(57, 80, [&](int, int, int) { return level; }), size, &out).ok());
            EXPECT_TRUE(std::all_of(out.pixels.begin(), out.pixels.end(), [&](int v) { return v == level; }))
                << level << " at size " << size;
        }
    }
}

TEST(Resize, LeavesAnImageOfThatSizeAlone) {
    const Image in = noise(31, 47);
    Image out = in;
    ASSERT_TRUE(resize_short_side(out, 31, &out).ok());  // In place, too.
    EXPECT_EQ(out.pixels, in.pixels);
}

// Crop

struct CropCase {
    int size, crop;
    int first;    ///< Of the image, in the crop.
    int padding;  ///< Zeros before it.
};

TEST(Crop, RoundsAHalfToEvenAndPadsWithZeros) {
    const std::vector<CropCase> cases = {
        {10, 10, 0, 0}, {11, 10, 0, 0}, {12, 10, 1, 0}, {13, 10, 2, 0}, {14, 10, 2, 0}, {15, 10, 2, 0},
        {17, 10, 4, 0}, {10, 9, 0, 0},  {12, 9, 2, 0},  {14, 9, 2, 0},  {9, 10, 0, 0},  {8, 10, 0, 1},
        {7, 10, 0, 1},  {1, 10, 0, 4},  {1, 11, 0, 5},  {10, 1, 4, 0},  {2, 1, 0, 0},
    };
    for (const CropCase &x : cases) {
        for (const CropCase &y : cases) {
            SCOPED_TRACE(testing::Message() << x.size << " x " << y.size << " to " << x.crop << " x " << y.crop);
            const Image in = make_image(x.size, y.size, [](int u, int v, int c) { return 1 + u + 16 * v % 240 + c; });
            const auto expected = [&](int u, int v, int c) {
                u += x.first - x.padding;
                v += y.first - y.padding;
                const bool inside = u >= 0 && u < x.size && v >= 0 && v < y.size;
                return inside ? in.pixels[(size_t(v) * x.size + u) * 3 + c] : 0;
            };
            Image out;
            ASSERT_TRUE(center_crop(in, y.crop, x.crop, &out).ok());
            ASSERT_EQ(out.width, x.crop);
            ASSERT_EQ(out.height, y.crop);
            ASSERT_EQ(out.pixels, make_image(x.crop, y.crop, expected).pixels);
        }
    }
}

// Orientation

TEST(Orient, TurnsAndMirrors) {
    const auto letters = [](int width, const std::string &text) {
        const int height = static_cast<int>(text.size()) / width;
        return make_image(width, height, [&](int x, int y, int c) { return text[y * width + x] + 100 * (c == 2); });
    };
    // As the EXIF standard has it: which sides of the scene are the first row and the first column of the file.
    const std::vector<std::pair<int, std::string>> upright = {{3, "abcdef"}, {3, "cbafed"}, {3, "fedcba"},
                                                              {3, "defabc"}, {2, "adbecf"}, {2, "daebfc"},
                                                              {2, "fcebda"}, {2, "cfbead"}};
    for (int orientation = 1; orientation <= 8; ++orientation) {
        SCOPED_TRACE(orientation);
        Image image = letters(3, "abcdef");
        image.orientation = orientation;
        ASSERT_TRUE(orient(image, &image).ok());
        const Image expected = letters(upright[orientation - 1].first, upright[orientation - 1].second);
        EXPECT_EQ(image.width, expected.width);
        EXPECT_EQ(image.height, expected.height);
        EXPECT_EQ(image.pixels, expected.pixels);
        EXPECT_EQ(image.orientation, 1);
    }
}

TEST(Orient, IsPartOfPreprocessUnlessSwitchedOff) {
    Preprocess how{40, 33, 29};
    const auto prepared = [&](const Image &image, bool orient) {
        how.orient = orient;
        std::vector<float> input(size_t{3} * how.crop_height * how.crop_width);
        EXPECT_TRUE(preprocess(image, how, input).ok());
        return input;
    };
    Image stored = noise(131, 67);
    for (stored.orientation = 1; stored.orientation <= 8; ++stored.orientation) {
        SCOPED_TRACE(stored.orientation);
        Image upright, plain = stored;
        ASSERT_TRUE(orient(stored, &upright).ok());
        plain.orientation = 1;
        EXPECT_EQ(prepared(stored, true), prepared(upright, false));
        EXPECT_EQ(prepared(stored, false), prepared(plain, false));
        Image kept;
        ASSERT_TRUE(resize_short_side(stored, 20, &kept).ok());
        ASSERT_TRUE(center_crop(kept, 9, 9, &kept).ok());
        EXPECT_EQ(kept.orientation, stored.orientation);
    }
}

TEST(Orient, IsReadFromExifData) {
    const Bytes good = exif_data(6, false), jpeg = jpeg_file(noise(5, 3));
    const size_t entry = 8 + 2 + 12;  // Tag, type, count, value.
    struct Case {
        std::string name;
        Bytes exif;
        int orientation;
    };
    std::vector<Case> cases = {
        {"long", with_bytes(good, entry + 2, {4}), 6},
        {"cut behind the value", head(good, entry + 10), 6},
        {"cut in the value", head(good, entry + 8), 1},
        {"cut in the tag", head(good, entry + 1), 1},
        {"header only", head(good, 8), 1},
        {"cut header", head(good, 7), 1},
        {"empty", {}, 1},
        {"another byte order", with_bytes(good, 0, {'M', 'M'}), 1},
        {"no byte order", with_bytes(good, 0, {'X', 'X'}), 1},
        {"another magic number", with_bytes(good, 2, {43}), 1},
        {"directory beyond the end", with_bytes(good, 4, {0xFF, 0xFF, 0xFF, 0xFF}), 1},
        {"directory at its end", with_bytes(good, 4, {static_cast<uint8_t>(good.size())}), 1},
        {"directory in the header", with_bytes(good, 4, {0}), 1},
        {"more entries than there are", with_bytes(good, 8, {0xFF, 0xFF}), 6},
        {"fewer entries", with_bytes(good, 8, {1}), 1},
        {"another tag", with_bytes(good, entry, {0x13}), 1},
        {"text", with_bytes(good, entry + 2, {2}), 1},
        {"two values", with_bytes(good, entry + 4, {2}), 1},
        {"no value", with_bytes(good, entry + 4, {0}), 1},
    };
    for (const bool big_endian : {false, true}) {
        for (const int value : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 256, 65535}) {
            cases.push_back({"value " + std::to_string(value) + (big_endian ? " big-endian" : " little-endian"),
                             exif_data(value, big_endian), value >= 1 && value <= 8 ? value : 1});
        }
    }
    for (const Case &c : cases) {
        SCOPED_TRACE(c.name);
        Image image;
        const Status status = decode_image(with_exif(jpeg, c.exif), "image", &image);
        ASSERT_TRUE(status.ok()) << status.message();
        EXPECT_EQ(image.orientation, c.orientation);
        EXPECT_EQ(image.width, 5);
    }
    // XMP has the same kind of marker. Of several EXIF data the first count.
    const Bytes second = with_exif(with_exif(jpeg, exif_data(3, true)), good);
    Image image;
    ASSERT_TRUE(
        decode_image(with_marker(second, 0xE1, to_bytes("http://ns.adobe.com/xap/1.0/")), "image", &image).ok());
    EXPECT_EQ(image.orientation, 6);
}

// Preprocess

TEST(Preprocess, IsResizeThenCropThenNormalisation) {
    const std::vector<Preprocess> settings = {
        {}, {232, 224, 224}, {64, 63, 50}, {20, 31, 64}, {20, 64, 20}, {33, 33, 33, {0.5F, 0, 1}, {1, -2, 0.25F}},
    };
    for (const Image &image : {noise(75, 50), gradient(33, 60), noise(20, 20), noise(1, 3)}) {
        for (const Preprocess &how : settings) {
            Image cropped;
            ASSERT_TRUE(resize_short_side(image, how.resize, &cropped).ok());
            ASSERT_TRUE(center_crop(cropped, how.crop_height, how.crop_width, &cropped).ok());
            const size_t plane = cropped.pixels.size() / 3;
            std::vector<float> input(plane * 3, -1e9F);
            const Status status = preprocess(image, how, input);
            ASSERT_TRUE(status.ok()) << status.message();
            for (size_t i = 0; i < input.size(); ++i) {
                const size_t channel = i / plane, pixel = i % plane;
                const float value = static_cast<float>(cropped.pixels[pixel * 3 + channel]) / 255.0F;
                ASSERT_EQ(input[i], (value - how.mean[channel]) / how.std[channel]) << "element " << i;
            }
        }
    }
}

TEST(Preprocess, NormalisesAsTorch) {
    // ToTensor and Normalize of torchvision 0.14.1 with its ImageNet mean and standard deviation; exact.
    std::vector<float> input(3 * 4);
    const Image image = make_image(2, 2, [](int x, int y, int c) { return (x + 2 * y) * 85 + (c == 1 ? -x - y : 0); });
    ASSERT_TRUE(preprocess(image, {2, 2, 2}, input).ok());
    EXPECT_EQ(input,
              (std::vector<float>{-2.11790395F, -0.662299871F, 0.793304265F, 2.24890828F, -2.03571415F, -0.565126002F,
                                  0.922969222F, 2.39355755F, -1.80444443F, -0.32296288F, 1.15851867F, 2.6400001F}));
}

TEST(Preprocess, NamesBadArguments) {
    const Image good = noise(8, 8), empty, negative{4, -4, {}}, huge{1 << 30, 1 << 30, {}}, cut{8, 8, Bytes(191)};
    const Image askew{8, 8, Bytes(192), 9}, unturned{8, 8, Bytes(192), 0};
    const size_t floats = 3 * 224 * 224;
    struct Case {
        const Image *image;
        Preprocess how;
        size_t floats;
        std::string expected;
    };
    const std::vector<Case> cases = {
        {&good, {}, floats - 1, "input: expected room for 150528 floats, found 150527"},
        {&good, {}, 0, "input: expected room for 150528 floats, found 0"},
        {&good, {0}, floats, "resize: expected a positive size, found 0"},
        {&good, {-256}, floats, "resize: expected a positive size, found -256"},
        {&good, {1 << 30}, floats, "resize: expected at most 268435456 pixels after resizing 8 x 8 pixels"},
        {&good, {256, 0, 224}, floats, "crop: expected 1 to 268435456 pixels, found 224 x 0 pixels"},
        {&good, {256, 224, -1}, floats, "crop: expected"},
        {&good, {256, 1 << 30, 1 << 30}, floats, "crop: expected"},
        {&good, {256, 224, 224, {}, {1, 0, 1}}, floats, "std: expected finite numbers other than 0, found 0.0"},
        {&good, {256, 224, 224, {}, {1, NAN, 1}}, floats, "std: expected finite numbers other than 0, found nan"},
        {&good, {256, 224, 224, {INFINITY, 0, 0}}, floats, "mean: expected finite numbers, found inf"},
        {&empty, {}, floats, "image: expected 1 to 268435456 pixels, found 0 x 0 pixels"},
        {&negative, {}, floats, "image: expected 1 to"},
        {&huge, {}, floats, "image: expected 1 to"},
        {&cut, {}, floats, "image: expected 192 bytes for 8 x 8 pixels, found 191"},
        {&askew, {}, floats, "image: expected an orientation of 1 to 8, found 9"},
        {&unturned, {}, floats, "image: expected an orientation of 1 to 8, found 0"},
    };
    for (const Case &c : cases) {
        std::vector<float> input(c.floats);
        const Status status = preprocess(*c.image, c.how, input);
        EXPECT_EQ(status.code(), Code::kBadInput) << c.expected;
        EXPECT_NE(status.message().find(c.expected), std::string::npos) << status.message() << "\n" << c.expected;
    }
    Image out;
    EXPECT_FALSE(resize_short_side({}, 4, &out).ok());
    EXPECT_FALSE(resize_short_side(good, 0, &out).ok());
    EXPECT_FALSE(center_crop({}, 4, 4, &out).ok());
    EXPECT_FALSE(center_crop(good, 4, 0, &out).ok());
    // Long images grow long: 2000 x 2,000,000 pixels.
    EXPECT_FALSE(resize_short_side(noise(1, 1000), 2000, &out).ok());
}

// Files against PIL

/// A folder of its own that goes away with the object.
class TemporaryFolder {
  public:
    TemporaryFolder() {
        std::string path = (std::filesystem::temp_directory_path() / "image_test_XXXXXX").string();
        if (mkdtemp(path.data()) != nullptr) path_ = path;
    }
    TemporaryFolder(const TemporaryFolder &) = delete;
    TemporaryFolder &operator=(const TemporaryFolder &) = delete;
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    const std::string &path() const { return path_; }

  private:
    std::string path_;
};

Bytes read_bytes(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

void write_bytes(const std::string &path, const Bytes &bytes) {
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char *>(bytes.data()), std::ssize(bytes));
}

std::vector<std::vector<std::string>> read_table(const std::string &path) {
    std::vector<std::vector<std::string>> rows;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        std::istringstream cells(line);
        rows.emplace_back();
        for (std::string cell; std::getline(cells, cell, '\t');) rows.back().push_back(cell);
    }
    return rows;
}

/// Exit status of tests/pil_reference.py, or -1.
int run_pil(const std::string &arguments) {
    const int status =
        std::system(("/usr/bin/python3 '" SHUFFLENET_SOURCE_DIR "/tests/pil_reference.py' " + arguments).c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

constexpr int kNoPil = 77;

void compare_decoded(const std::string &folder, size_t least) {
    const auto rows = read_table(folder + "/decoded.tsv");
    ASSERT_GE(rows.size(), least);
    for (const auto &row : rows) {
        ASSERT_EQ(row.size(), 4U);
        SCOPED_TRACE(row[0]);
        Image image;
        const Status status = decode_image_file(row[0], &image);
        EXPECT_TRUE(status.ok()) << status.message();
        EXPECT_EQ(image.width, std::stoi(row[1]));
        EXPECT_EQ(image.height, std::stoi(row[2]));
        EXPECT_EQ(max_difference(image.pixels, read_bytes(row[3])), 0);
    }
}

/// What exif_transpose makes of each image, and of the image without it.
void compare_oriented(const std::string &folder, size_t least) {
    const auto rows = read_table(folder + "/oriented.tsv");
    ASSERT_GE(rows.size(), least);
    for (const auto &row : rows) {
        ASSERT_EQ(row.size(), 4U);
        SCOPED_TRACE(row[0]);
        Image image;
        ASSERT_TRUE(decode_image_file(row[0], &image).ok());
        ASSERT_TRUE(orient(image, &image).ok());
        EXPECT_EQ(image.width, std::stoi(row[1]));
        EXPECT_EQ(image.height, std::stoi(row[2]));
        EXPECT_EQ(max_difference(image.pixels, read_bytes(row[3])), 0);
    }
}

void compare_transformed(const std::string &folder, size_t least) {
    const auto rows = read_table(folder + "/transformed.tsv");
    ASSERT_GE(rows.size(), least);
    for (const auto &row : rows) {
        ASSERT_EQ(row.size(), 5U);
        SCOPED_TRACE(row[0] + " resize " + row[1] + " crop " + row[2] + " x " + row[3]);
        Image image;
        ASSERT_TRUE(decode_image_file(row[0], &image).ok());
        ASSERT_TRUE(resize_short_side(image, std::stoi(row[1]), &image).ok());
        ASSERT_TRUE(center_crop(image, std::stoi(row[2]), std::stoi(row[3]), &image).ok());
        EXPECT_EQ(max_difference(image.pixels, read_bytes(row[4])), 0);
    }
}

TEST(AgainstPil, AllFormatsAndSizes) {
    const TemporaryFolder folder;
    const int status = run_pil(folder.path());
    if (status == kNoPil) GTEST_SKIP() << "python3-pil or python3-numpy is not installed";
    ASSERT_EQ(status, 0);
    compare_decoded(folder.path(), 160);
    compare_oriented(folder.path(), 80);
    compare_transformed(folder.path(), 80);
}

TEST(AgainstPil, Photos) {
    const std::string photos = SHUFFLENET_SHARED_DATA "/photos";
    if (!std::filesystem::is_directory(photos)) GTEST_SKIP() << "there is no folder " << photos;
    const TemporaryFolder folder;
    const int status = run_pil(folder.path() + " --photos '" + photos + "'");
    if (status == kNoPil) GTEST_SKIP() << "python3-pil or python3-numpy is not installed";
    ASSERT_EQ(status, 0);
    compare_decoded(folder.path(), 1);
    compare_transformed(folder.path(), 3);
}

// The program's floating-point environment

/// Everything that images go through, as bytes. The sizes make halves of pixels, up and down.
std::vector<Bytes> through_everything(const std::vector<Bytes> &files, std::vector<float> &input) {
    std::vector<Bytes> results;
    for (const Bytes &file : files) {
        Image image, resized, cropped;
        bool ok = decode_image(file, "image", &image).ok();
        results.push_back(image.pixels);
        for (const int size : {17, 40, 61, 100}) {
            ok = ok && resize_short_side(image, size, &resized).ok();
            results.push_back(resized.pixels);
        }
        for (const int crop : {8, 9, 10, 11, 60}) {
            ok = ok && center_crop(image, crop, crop + 1, &cropped).ok();
            results.push_back(cropped.pixels);
        }
        // Denormal numbers among the results, and all of them.
        for (const float std : {0.224F, 1e38F}) {
            ok = ok && preprocess(image, {40, 32, 29, {0.485F, 0.456F, 1e-40F}, {std, 0.225F, std}}, input).ok();
            results.emplace_back(input.size() * sizeof(float));
            std::memcpy(results.back().data(), input.data(), results.back().size());
        }
        if (!ok) results.emplace_back();
    }
    return results;
}

TEST(FloatEnvironment, ChangesNoBit) {
    const Image in = noise(53, 38);
    const std::vector<Bytes> files = {jpeg_file(in), jpeg_file(in, true), png_file(in), bmp_file(in), ppm_file(in)};
    std::vector<float> input(3 * 32 * 29);
    const std::vector<Bytes> expected = through_everything(files, input);
    ASSERT_FALSE(expected.back().empty());
    for (const HostEnvironment &host : host_environments()) {
        std::vector<Bytes> found;
        bool untouched = false;
        {
            const InHostEnvironment environment(host);
            found = through_everything(files, input);
            untouched = environment.untouched();
        }
        EXPECT_TRUE(untouched) << host.name;
        EXPECT_TRUE(found == expected) << host.name;
    }
}

// Files

TEST(Decode, ReadsEachFormat) {
    const Image in = gradient(37, 23);
    Image out;
    for (const Bytes &lossless : {png_file(in), bmp_file(in), ppm_file(in)}) {
        const Status status = decode_image(lossless, "image", &out);
        ASSERT_TRUE(status.ok()) << status.message();
        EXPECT_EQ(out.width, in.width);
        EXPECT_EQ(out.height, in.height);
        EXPECT_EQ(out.pixels, in.pixels);
    }
    const Image smooth = make_image(40, 30, [](int x, int y, int c) { return 4 * x + 2 * y + 10 * c; });
    for (const bool progressive : {false, true}) {
        ASSERT_TRUE(decode_image(jpeg_file(smooth, progressive), "image", &out).ok());
        // Quality 75: the quantisation steps of a smooth image's few coefficients.
        EXPECT_LE(max_difference(out.pixels, smooth.pixels), 12);
    }
}

TEST(Decode, KeepsTheOldImageOnError) {
    Image image = noise(3, 3);
    const Image before = image;
    ASSERT_FALSE(decode_image(head(png_file(noise(9, 9)), 100), "image", &image).ok());
    EXPECT_EQ(image.width, before.width);
    EXPECT_EQ(image.pixels, before.pixels);
}

TEST(Decode, NamesBadFiles) {
    const Bytes jpeg = jpeg_file(noise(48, 40)), progressive = jpeg_file(noise(48, 40), true);
    const Bytes png = png_file(noise(20, 20)), bmp = bmp_file(noise(5, 5)), ppm = ppm_file(noise(5, 5));
    const std::vector<uint16_t> grey16(16, 1000);
    const size_t frame = find(jpeg, {0xFF, 0xC0});  // Marker, length, precision, height, width.
    struct Case {
        std::string name;
        Bytes file;
        std::string expected;
    };
    const std::vector<Case> cases = {
        {"empty", {}, "expected a JPEG, PNG, BMP, PPM or PGM image, found an empty file"},
        {"text", to_bytes("hello\nworld"), "found text, 'hello'"},
        {"one byte", {7}, "found a file that starts with '\\x07'"},

        {"jpeg signature", head(jpeg, 3), "expected a complete JPEG image, found: Premature end of JPEG file"},
        {"jpeg header", head(jpeg, 100), "Premature end of JPEG file"},
        {"jpeg half", head(jpeg, jpeg.size() / 2), "Premature end of JPEG file"},
        {"jpeg without its end", head(jpeg, jpeg.size() - 2), "Premature end of JPEG file"},
        {"progressive half", head(progressive, progressive.size() / 2), "Premature end of JPEG file"},
        {"jpeg of 600 scans", jpeg_of_scans(progressive, 600), "expected at most 500 scans, found more"},
        {"jpeg of two components", jpeg_file(noise(48, 40), false, 2), "1, 3 or 4 components, found 2"},
        {"jpeg of 12 bits", with_bytes(jpeg, frame + 4, {12}), "Unsupported JPEG data precision 12"},
        {"jpeg without a size", with_bytes(jpeg, frame + 5, {0, 0, 0, 0}), "Empty JPEG image (DNL not supported)"},
        {"huge jpeg", with_bytes(jpeg, frame + 5, {0xFF, 0xDC, 0xFF, 0xDC}),
         "expected at most 268435456 pixels, found 65500 x 65500 pixels"},
        {"hollow jpeg", with_bytes(jpeg, frame + 5, {0x30, 0, 0x40, 0}),
         "truncated: expected data of 16384 x 12288 pixels, found a file of"},

        {"png signature", head(png, 8), "expected a complete PNG image, found: premature end of file"},
        {"png half", head(png, png.size() / 2), "premature end of file"},
        {"png without its end", head(png, png.size() - 12), "premature end of file"},
        {"png header checksum", with_bytes(png, 16, {0, 0, 1}), "IHDR: CRC error"},
        {"png data checksum", with_bytes(png, png.size() / 2, {1, 2, 3, 4}), "expected a complete PNG image, found: "},
        {"png of 16-bit grey", png_file({4, 4, {}}, PNG_FORMAT_LINEAR_Y, grey16.data()),
         "expected at most 8 bits of grey without alpha in a PNG image, found 16"},

        {"bmp signature", head(bmp, 2), "truncated: the BMP file ends in its header"},
        {"bmp header", head(bmp, 30), "truncated: the BMP file ends in its header"},
        {"bmp pixels", head(bmp, bmp.size() - 2), "truncated: expected 79 bytes of BMP pixels, found 78"},
        {"bmp header size", with_bytes(bmp, 14, {99, 1}), "expected a BMP header of 12 or 40 to 124 bytes, found 355"},
        {"bmp depth", with_bytes(bmp, 28, {7}), "1, 4, 8, 16, 24 or 32 bits a BMP pixel, found 7"},
        {"bmp run lengths", with_bytes(with_bytes(bmp, 28, {8}), 30, {1}),
         "uncompressed BMP image, found compression 1"},
        {"bmp masks", with_bytes(with_bytes(bmp, 28, {32}), 30, {3}), "found other bit masks"},
        {"bmp huge palette", with_bytes(with_bytes(bmp, 28, {8}), 46, {0xFF, 0xFF, 0xFF, 0xFF}), "ends in its header"},
        {"bmp cut palette", with_bytes(with_bytes(bmp, 28, {8}), 10, {60}), "ends in its header"},
        {"bmp offset", with_bytes(bmp, 10, {0xFF, 0xFF}), "truncated: the BMP file ends in its header"},
        {"bmp without width", with_bytes(bmp, 18, {0}), "expected a positive image size, found 0 x 5 pixels"},
        {"huge bmp", with_bytes(bmp, 18, {0, 0, 0, 0x7F, 0, 0, 0, 0x7F}),
         "expected at most 268435456 pixels, found 2130706432 x 2130706432 pixels"},

        {"ppm signature", to_bytes("P6"), "expected a blank after the P5 or P6"},
        {"ppm header", to_bytes("P6 5 5"), "expected width, height and maximum"},
        {"ppm words", to_bytes("P6 five 5 255 "), "expected width, height and maximum"},
        {"ppm negative", to_bytes("P6 -5 5 255 "), "expected width, height and maximum"},
        {"ppm digits", to_bytes("P6 00000000005 5 255 "), "expected width, height and maximum"},
        {"ppm without height", to_bytes("P6 5 0 255 "), "expected a positive image size, found 5 x 0 pixels"},
        {"ppm maximum", to_bytes("P6 5 5 65536 "),
         "expected a maximum of 1 to 65535 in a PGM or PPM file, found 65536"},
        {"ppm without maximum", to_bytes("P6 5 5 0 "), "expected a maximum of 1 to 65535"},
        {"ppm pixels", head(ppm, ppm.size() - 1), "truncated: expected 75 bytes of samples, found 74"},
        {"ppm of 16 bits", to_bytes("P6 1 1 65535\n12345"), "truncated: expected 6 bytes of samples, found 5"},
        {"pgm of 16 bits", to_bytes("P5 1 1 65535\n12"),
         "expected a maximum of at most 255 in a PGM file, found 65535"},
        {"huge ppm", to_bytes("P6 9999999999 9999999999 255\n"), "expected at most 268435456 pixels"},
    };
    for (const Case &c : cases) {
        Image image;
        const Status status = decode_image(c.file, c.name, &image);
        EXPECT_EQ(status.code(), Code::kBadInput) << c.name;
        EXPECT_TRUE(status.message().starts_with(c.name + ": ")) << status.message();
        EXPECT_NE(status.message().find(c.expected), std::string::npos) << status.message() << "\n" << c.expected;
        EXPECT_EQ(status.message().find('\n'), std::string::npos) << status.message();
    }
}

TEST(Decode, NamesOtherKindsOfFile) {
    using namespace std::literals;
    const std::string convert = ": convert it to PNG or JPEG", frame = ": save a frame of it as PNG or JPEG";
    const auto media = [](const std::string &brands) {
        return "\0\0\0\x20"s + "ftyp" + brands + std::string(40, '\0');
    };
    struct Case {
        std::string start, found;
    };
    const std::vector<Case> cases = {
        {media("heic\0\0\0\0mif1heic"s), "a HEIC image" + convert},
        {media("heix\0\0\0\0mif1heix"s), "a HEIC image" + convert},
        {media("hevc\0\0\0\0msf1hevc"s), "a HEIC image" + convert},
        {media("mif1\0\0\0\0mif1heic"s), "a HEIC image" + convert},
        {media("avif\0\0\0\0mif1avif"s), "an AVIF image" + convert},
        {media("avis\0\0\0\0msf1avis"s), "an AVIF image" + convert},
        {media("mif1\0\0\0\0miafavif"s), "an AVIF image" + convert},
        {media("crx \0\0\0\1crx isom"s), "a camera's raw file (CR3)" + convert},
        {media("isom\0\0\2\0isomiso2"s), "a video (MP4 or QuickTime)" + frame},
        {media("qt  \0\0\0\0qt  "s), "a video (MP4 or QuickTime)" + frame},
        {"P1\nP2\nP3\n"s, "text, 'P1'"},
        {"RIFF\x40\0\0\0AVI LIST"s, "a video (AVI)" + frame},
        {"\x1A\x45\xDF\xA3\x9F\x42\x86\x81"s, "a video (Matroska or WebM)" + frame},
        {"RIFF\x40\0\0\0WEBPVP8 "s, "a WebP image" + convert},
        {"\xFF\x0A\xFA\x1F"s, "a JPEG XL image" + convert},
        {"\0\0\0\x0CJXL \r\n\x87\n\0\0\0\x14"s, "a JPEG XL image" + convert},
        {"\0\0\0\x0CjP  \r\n\x87\n\0\0\0\x14"s, "a JPEG 2000 image" + convert},
        {"\xFF\x4F\xFF\x51\0\x2F"s, "a JPEG 2000 image" + convert},
        {"GIF87a\1\0\1\0"s, "a GIF image" + convert},
        {"GIF89a\1\0\1\0"s, "a GIF image" + convert},
        {"II*\0\x08\0\0\0\x10\0\0\0"s, "a TIFF image, or a camera's raw file" + convert},
        {"MM\0*\0\0\0\x08\0\x10\0\0"s, "a TIFF image, or a camera's raw file" + convert},
        {"II+\0\x08\0\0\0"s, "a BigTIFF image" + convert},
        {"II*\0\x10\0\0\0CR\2\0"s, "a camera's raw file (CR2)" + convert},
        {"FUJIFILMCCD-RAW 0201"s, "a camera's raw file (RAF)" + convert},
        {"\0\0\1\0\2\0\x10\x10"s, "an icon (ICO)" + convert},
        {"\0\0\2\0\1\0\x20\x20"s, "an icon (ICO)" + convert},
        {"%PDF-1.7\n%\xE2\xE3\n"s, "a PDF document" + convert},
        {"%!PS-Adobe-3.0 EPSF-3.0\n"s, "a PostScript document" + convert},
        {R"(<svg xmlns="http://www.w3.org/2000/svg">)"s, "an SVG image" + convert},
        {"\xEF\xBB\xBF<?xml version=\"1.0\"?>\n<!-- by hand -->\n<svg>"s, "an SVG image" + convert},
        {"8BPS\0\1\0\0"s, "a Photoshop image" + convert},
        {"gimp xcf v011"s, "a GIMP image" + convert},
        {"qoif\0\0\0\x10\0\0\0\x10\3\0"s, "a QOI image" + convert},
        {"\x76\x2F\x31\x01\2\0\0\0"s, "an OpenEXR image" + convert},
        {"#?RADIANCE\n"s, "a Radiance HDR image" + convert},
        {"DDS \x7C\0\0\0"s, "a DDS image" + convert},
        {"P3\n1 1\n255\n0 0 0\n"s, "a plain PPM image" + convert},
        {"P1 1 1 0\n"s, "a plain PBM image" + convert},
        {"P4\n8 1\n\xFF"s, "a PBM image" + convert},
        {"P7\nWIDTH 1\n"s, "a PAM image" + convert},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"s,
         "a Git LFS pointer, not the file itself: run 'git lfs pull'"},
        {"\r\n<!DOCTYPE html>\n<html>"s, "a web page: the download is not the file itself"},
        {"<HTML><head>"s, "a web page: the download is not the file itself"},
        {R"({"error": "not found"})"s, R"(JSON, '{"error": "not found"}')"},
        {"\x1F\x8B\x08\0\0\0\0\0"s, "a gzip file: unpack it, e.g. with gunzip"},
        {"PK\3\4\x14\0\0\0\x08\0"s, "a zip archive: unpack it"},
        {"\x93NUMPY\1\0\x76\0"s, "a NumPy array (.npy)"},
        {std::string(600, '\0'), "a file that starts with zeros: the download is incomplete"},
        {"PS is no image"s, "text, 'PS is no image'"},
        {"\0\0\1\0\0\0"s, R"(a file that starts with '\x00\x00\x01\x00\x00\x00')"},
        {"ftypheic"s, "text, 'ftypheic'"},
        {"1234ftypheic"s, "text, '1234ftypheic'"},
    };
    for (const Case &c : cases) {
        Image image;
        EXPECT_EQ(decode_image(to_bytes(c.start), "photo.jpg", &image).message(),
                  "photo.jpg: expected a JPEG, PNG, BMP, PPM or PGM image, found " + c.found);
        // A copy without spare room, so that a sanitizer sees a read beyond it.
        for (size_t size = 0; size < std::min<size_t>(c.start.size(), 64); ++size) {
            EXPECT_FALSE(decode_image(to_bytes(c.start.substr(0, size)), "photo.jpg", &image).ok());
        }
    }
}

TEST(Decode, NamesFilesThatCannotBeRead) {
    const TemporaryFolder folder;
    Image image;
    const std::string missing = folder.path() + "/missing.jpg";
    EXPECT_EQ(decode_image_file(missing, &image).message(), missing + ": cannot be opened: No such file or directory");
    EXPECT_EQ(decode_image_file(folder.path(), &image).message(), folder.path() + ": cannot be read: Is a directory");
    const std::string empty = folder.path() + "/empty.png";
    write_bytes(empty, {});
    EXPECT_NE(decode_image_file(empty, &image).message().find("found an empty file"), std::string::npos);
}

TEST(Decode, RefusesEveryTruncatedFile) {
    const Image in = noise(19, 17);
    for (const Bytes &file : {jpeg_file(in), jpeg_file(in, true), png_file(in), bmp_file(in), ppm_file(in)}) {
        Image image;
        ASSERT_TRUE(decode_image(file, "image", &image).ok());
        // The last bytes of a BMP are padding, which PIL does not ask for.
        const size_t padding = file[0] == 'B' ? 3 : 0;
        for (size_t size = 0; size < file.size() - padding; ++size) {
            // A copy without spare room, so that a sanitizer sees a read beyond it.
            const Bytes truncated(file.begin(), file.begin() + static_cast<ptrdiff_t>(size));
            ASSERT_EQ(decode_image(truncated, "image", &image).code(), Code::kBadInput) << size;
        }
    }
}

TEST(Decode, SurvivesDamagedFiles) {
    const Image in = noise(19, 17);
    std::mt19937 random(1);
    for (const Bytes &file : {jpeg_file(in), jpeg_file(in, true), png_file(in), bmp_file(in), ppm_file(in)}) {
        for (int i = 0; i < 1000; ++i) {
            Bytes damaged = file;
            const size_t area = i % 2 == 0 ? std::min<size_t>(file.size(), 64) : file.size();
            for (int n = 0; n < 1 + i % 3; ++n) damaged[random() % area] = static_cast<uint8_t>(random());
            Image image;
            const Status status = decode_image(damaged, "image", &image);
            if (!status.ok()) continue;
            EXPECT_EQ(image.pixels.size(), size_t(image.width) * image.height * 3);
        }
    }
}

}  // namespace
}  // namespace shufflenet
