// Reads a file, recognises its format and hands it to that format's decoder.
#include <algorithm>
#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "file.h"
#include "file_kind.h"
#include "image_decoders.h"
#include "message.h"
#include "shufflenet/image.h"

namespace shufflenet {
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

/// A file format by its first bytes.
struct Format {
    std::string_view signature;
    Decoder decode;
};

constexpr std::array kFormats = {
    Format{"\xFF\xD8\xFF", decode_jpeg},
    Format{"\x89PNG\r\n\x1A\n", decode_png},
    Format{"BM", decode_bmp},
    Format{"P5", decode_pnm},
    Format{"P6", decode_pnm},
};

const Format *find_format(Bytes file) {
    const std::string_view start(reinterpret_cast<const char *>(file.data()), std::min<size_t>(file.size(), 8));
    const auto *found =
        std::find_if(kFormats.begin(), kFormats.end(), [&](const Format &f) { return start.starts_with(f.signature); });
    return found == kFormats.end() ? nullptr : found;
}

Status no_image(Bytes file, const std::string &name) {
    const auto start = std::as_bytes(file.first(std::min(file.size(), kRecognisedBytes)));
    std::string problem = "expected a JPEG, PNG, BMP, PPM or PGM image, found " + found_text(start);
    const FileKind kind = recognise_file(start).kind;
    if (kind == FileKind::kImage) problem += ": convert it to PNG or JPEG";
    if (kind == FileKind::kVideo) problem += ": save a frame of it as PNG or JPEG";
    return message::bad_input(name, problem);
}

Status decode(Bytes file, const std::string &name, Image *image) {
    const Format *format = find_format(file);
    if (format == nullptr) return no_image(file, name);
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
