// Uncompressed BMP, bottom up or top down: palettes of 1, 4 and 8 bits, and 16, 24 and 32 bits a pixel.
#include <array>
#include <bit>
#include <cstring>

#include "image_decoders.h"
#include "message.h"

namespace shufflenet::inline SHUFFLENET_ABI::detail {
namespace {

constexpr size_t kFileHeaderBytes = 14;
constexpr uint32_t kCoreHeaderBytes = 12;  // OS/2 1.x: sizes of 16 bits, palette entries of 3 bytes.
constexpr uint32_t kInfoHeaderBytes = 40;  // Windows 3.x; later ones are longer.
constexpr uint32_t kUncompressed = 0, kBitFields = 3;

uint32_t little_endian(Bytes file, size_t offset, int bytes) {
    uint32_t value = 0;
    for (int i = 0; i < bytes; ++i) value |= uint32_t{file[offset + i]} << (8 * i);
    return value;
}
uint32_t u16(Bytes file, size_t offset) { return little_endian(file, offset, 2); }
uint32_t u32(Bytes file, size_t offset) { return little_endian(file, offset, 4); }

struct Header {
    int64_t width = 0, height = 0;
    bool top_down = false;
    uint32_t bits = 0, compression = kUncompressed;
    std::array<uint32_t, kRgb> masks{};  ///< Of red, green and blue; 16 and 32 bits only.
    size_t palette = 0, palette_entry = 4, palette_size = 0;
    size_t pixels = 0;  ///< Offset of the first row.

    size_t row_bytes() const { return (static_cast<size_t>(width) * bits + 7) / 8; }
    size_t stride() const { return (row_bytes() + 3) / 4 * 4; }
};

void read_core_header(Bytes file, Header *h) {
    h->width = u16(file, 18);
    h->height = u16(file, 20);
    h->bits = u16(file, 24);
    h->palette_entry = 3;
}

void read_info_header(Bytes file, Header *h) {
    h->width = u32(file, 18);
    h->height = u32(file, 22);
    h->top_down = file[25] == 0xFF;  // A negative height.
    if (h->top_down) h->height = (int64_t{1} << 32) - h->height;
    h->bits = u16(file, 28);
    h->compression = u32(file, 30);
    h->palette_size = u32(file, 46);
}

/// The masks follow a 40-byte header and are part of the longer ones, at the same place.
constexpr size_t kMasks = kFileHeaderBytes + kInfoHeaderBytes;

Status read_masks(Bytes file, const std::string &name, Header *h) {
    h->masks = h->bits == 16 ? std::array<uint32_t, kRgb>{0x7C00, 0x03E0, 0x001F}
                             : std::array<uint32_t, kRgb>{0xFF0000, 0x00FF00, 0x0000FF};
    if (h->compression == kUncompressed) return {};
    if (file.size() < kMasks + 12) return message::bad_input(name, "truncated: the BMP file ends in its header");
    const std::array<uint32_t, kRgb> masks = {u32(file, kMasks), u32(file, kMasks + 4), u32(file, kMasks + 8)};
    const bool is_565 = h->bits == 16 && masks == std::array<uint32_t, kRgb>{0xF800, 0x07E0, 0x001F};
    bool whole_bytes = h->bits == 32;
    for (const uint32_t mask : masks) {
        whole_bytes &= mask == 0xFF || mask == 0xFF00 || mask == 0xFF0000 || mask == 0xFF000000;
    }
    const bool none = h->bits == 32 && masks == std::array<uint32_t, kRgb>{};
    if (is_565 || whole_bytes) {
        h->masks = masks;
    } else if (masks != h->masks && !none) {
        return message::bad_input(
            name, "expected a BMP image of 8 bits a channel, 5-5-5 or 5-6-5 bits, found other bit masks");
    }
    return {};
}

Status read_header(Bytes file, const std::string &name, Header *h) {
    const std::string truncated = "truncated: the BMP file ends in its header";
    if (file.size() < kFileHeaderBytes + kCoreHeaderBytes) return message::bad_input(name, truncated);
    const uint32_t header_bytes = u32(file, kFileHeaderBytes);
    if (header_bytes != kCoreHeaderBytes && (header_bytes < kInfoHeaderBytes || header_bytes > 124)) {
        return message::bad_input(
            name, "expected a BMP header of 12 or 40 to 124 bytes, found " + std::to_string(header_bytes));
    }
    h->palette = kFileHeaderBytes + header_bytes;
    if (file.size() < h->palette) return message::bad_input(name, truncated);
    header_bytes == kCoreHeaderBytes ? read_core_header(file, h) : read_info_header(file, h);

    const uint32_t bits = h->bits;
    if (bits != 1 && bits != 4 && bits != 8 && bits != 16 && bits != 24 && bits != 32) {
        return message::bad_input(name,
                                  "expected 1, 4, 8, 16, 24 or 32 bits a BMP pixel, found " + std::to_string(bits));
    }
    if (h->compression != kUncompressed && (h->compression != kBitFields || bits < 16)) {
        return message::bad_input(name, "expected an uncompressed BMP image, found compression " +
                                            std::to_string(h->compression) + " at " + std::to_string(bits) +
                                            " bits a pixel");
    }
    if (bits > 8) {
        h->palette_size = 0;
    } else if (h->palette_size == 0) {
        h->palette_size = size_t{1} << bits;
    }
    const size_t palette_end = h->palette + h->palette_size * h->palette_entry;
    h->pixels = u32(file, 10);
    // As PIL: some writers leave the palette out of the offset, or the offset out of the header.
    if (h->pixels == 0 || (bits <= 8 && h->pixels == h->palette)) h->pixels = palette_end;
    if (palette_end > file.size() || h->pixels > file.size()) return message::bad_input(name, truncated);
    return read_masks(file, name, h);
}

using Palette = std::array<std::array<uint8_t, kRgb>, 256>;

Palette read_palette(Bytes file, const Header &h) {
    Palette palette{};
    for (size_t i = 0; i < palette.size(); ++i) {
        palette[i].fill(static_cast<uint8_t>(i));  // PIL 9 gives an index beyond the palette its own value as grey.
        if (i >= h.palette_size) continue;
        const Bytes bgr = file.subspan(h.palette + i * h.palette_entry, kRgb);
        palette[i] = {bgr[2], bgr[1], bgr[0]};
    }
    return palette;
}

void unpack_palette(const uint8_t *row, const Header &h, const Palette &palette, uint8_t *rgb) {
    const size_t per_byte = 8 / h.bits;
    const unsigned mask = (1U << h.bits) - 1;
    for (size_t x = 0; x < static_cast<size_t>(h.width); ++x, rgb += kRgb) {
        const size_t shift = 8 - h.bits * (x % per_byte + 1);
        std::memcpy(rgb, palette[row[x / per_byte] >> shift & mask].data(), kRgb);
    }
}

void unpack_masks(const uint8_t *row, const Header &h, uint8_t *rgb) {
    const size_t pixel_bytes = h.bits / 8;
    for (int64_t x = 0; x < h.width; ++x, row += pixel_bytes, rgb += kRgb) {
        const uint32_t pixel = little_endian({row, pixel_bytes}, 0, static_cast<int>(pixel_bytes));
        for (int c = 0; c < kRgb; ++c) {
            const int shift = std::countr_zero(h.masks[c]);
            const uint32_t value = (pixel & h.masks[c]) >> shift, most = h.masks[c] >> shift;
            rgb[c] = static_cast<uint8_t>(value * 255 / most);
        }
    }
}

}  // namespace

Status decode_bmp(Bytes file, const std::string &name, Image *image) {
    Header h;
    if (Status status = read_header(file, name, &h); !status.ok()) return status;
    if (Status status = allocate_pixels(name, h.width, h.height, file.size(), 8, image); !status.ok()) return status;
    const auto height = static_cast<size_t>(h.height);
    const size_t expected = (height - 1) * h.stride() + h.row_bytes();
    if (file.size() - h.pixels < expected) {
        return message::bad_input(name, "truncated: expected " + std::to_string(expected) +
                                            " bytes of BMP pixels, found " + std::to_string(file.size() - h.pixels));
    }
    const Palette palette = h.bits <= 8 ? read_palette(file, h) : Palette{};
    for (size_t y = 0; y < height; ++y) {
        const uint8_t *row = file.data() + h.pixels + (h.top_down ? y : height - 1 - y) * h.stride();
        uint8_t *rgb = image->pixels.data() + y * static_cast<size_t>(h.width) * kRgb;
        h.bits <= 8 ? unpack_palette(row, h, palette, rgb) : unpack_masks(row, h, rgb);
    }
    return {};
}

}  // namespace shufflenet::detail
