// Reads a file, recognises its format and hands it to that format's decoder.
#include <algorithm>
#include <array>
#include <cstdio>
#include <string_view>
#include <utility>
#include <vector>

#include "file.h"
#include "image_decoders.h"
#include "message.h"
#include "shufflenet/image.h"

namespace shufflenet::inline SHUFFLENET_ABI {
namespace detail {

Status allocate_pixels(const std::string &name, int64_t width, int64_t height, size_t bytes, int64_t pixels_per_byte,
                       Image *image) {
    const std::string size = std::to_string(width) + " x " + std::to_string(height) + " pixels";
    if (width <= 0 || height <= 0) return message::bad_input(name, "expected a positive image size, found " + size);
    if (width > kMaxPixels || height > kMaxPixels || width * height > kMaxPixels) {
        return message::bad_input(name, "expected at most " + std::to_string(kMaxPixels) + " pixels, found " + size);
    }
    if (bytes < static_cast<size_t>(width * height / pixels_per_byte)) {
        return message::bad_input(
            name, "truncated: expected data of " + size + ", found a file of " + std::to_string(bytes) + " bytes");
    }
    image->width = static_cast<int>(width);
    image->height = static_cast<int>(height);
    image->pixels.resize(static_cast<size_t>(width * height) * kRgb);
    return {};
}

namespace {

using Decoder = Status (*)(Bytes, const std::string &, Image *);

/// A file format by its first bytes; without a decoder it is recognised only to be named in the error.
struct Format {
    std::string_view signature, name;
    Decoder decode;
};

constexpr std::array kFormats = {
    Format{"\xFF\xD8\xFF", "JPEG", decode_jpeg},
    Format{"\x89PNG\r\n\x1A\n", "PNG", decode_png},
    Format{"BM", "BMP", decode_bmp},
    Format{"P5", "PGM", decode_pnm},
    Format{"P6", "PPM", decode_pnm},
    Format{"P1", "plain PBM", nullptr},
    Format{"P2", "plain PGM", nullptr},
    Format{"P3", "plain PPM", nullptr},
    Format{"P4", "PBM", nullptr},
    Format{"GIF8", "GIF", nullptr},
    Format{"RIFF", "RIFF (WebP?)", nullptr},
    Format{{"II*\0", 4}, "TIFF", nullptr},
    Format{{"MM\0*", 4}, "TIFF", nullptr},
    Format{{"\0\0\0\x0CjP", 6}, "JPEG 2000", nullptr},
};

const Format *find_format(Bytes file) {
    const std::string_view start(reinterpret_cast<const char *>(file.data()), std::min<size_t>(file.size(), 8));
    const auto *found =
        std::find_if(kFormats.begin(), kFormats.end(), [&](const Format &f) { return start.starts_with(f.signature); });
    return found == kFormats.end() ? nullptr : found;
}

std::string hex_dump(Bytes bytes) {
    std::string text;
    for (const uint8_t byte : bytes) {
        std::array<char, 4> digits{};
        std::snprintf(digits.data(), digits.size(), " %02x", static_cast<unsigned>(byte));
        text += digits.data();
    }
    return text;
}

Status decode(Bytes file, const std::string &name, Image *image) {
    const std::string expected = "expected a JPEG, PNG, BMP, PPM or PGM image, found ";
    if (file.empty()) return message::bad_input(name, expected + "an empty file");
    const Format *format = find_format(file);
    if (format == nullptr) {
        return message::bad_input(
            name, expected + "a file that starts with bytes" + hex_dump(file.first(std::min<size_t>(file.size(), 4))));
    }
    if (format->decode == nullptr)
        return message::bad_input(name, expected + "a " + std::string(format->name) + " file");
    Image decoded;
    if (Status status = format->decode(file, name, &decoded); !status.ok()) return status;
    *image = std::move(decoded);
    return {};
}

}  // namespace
}  // namespace detail

Status decode_image(std::span<const uint8_t> bytes, const std::string &name, Image *image) try {
    return detail::decode(bytes, name, image);
} catch (...) {
    return message::from_exception(name);
}

Status decode_image_file(const std::string &path, Image *image) try {
    std::vector<std::byte> bytes;
    if (Status status = read_file(path, &bytes); !status.ok()) return status;
    return detail::decode({reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()}, path, image);
} catch (...) {
    return message::from_exception(path);
}

}  // namespace shufflenet
