// PNG through libpng: every colour type and depth to 8-bit RGB, as PIL reads it. No colour management, as there.
//
// libpng reports an error by a call that must not return, so each function here that calls it has a setjmp of its
// own and no object with a destructor.
#include <array>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include <png.h>

#include "image_decoders.h"
#include "message.h"

namespace shufflenet::inline SHUFFLENET_ABI::detail {
namespace {

/// One bit a pixel, and deflate's best ratio of 1032.
constexpr int64_t kPixelsPerByte = 8 * 1032;

struct Reader {
    Bytes rest;  ///< The part of the file that libpng has not read yet.
    png_structp png = nullptr;
    png_infop info = nullptr;
    png_uint_32 width = 0, height = 0;
    int depth = 0, color_type = 0;
    bool out_of_memory = false;
    std::array<char, 128> message{};

    Reader() = default;
    Reader(const Reader &) = delete;
    Reader &operator=(const Reader &) = delete;
    ~Reader() { png_destroy_read_struct(&png, &info, nullptr); }
};

[[noreturn]] void fail(png_structp png, png_const_charp message) {
    auto *reader = static_cast<Reader *>(png_get_error_ptr(png));
    std::snprintf(reader->message.data(), reader->message.size(), "%s", message);
    png_longjmp(png, 1);
}

void ignore_warning(png_structp, png_const_charp) {}

png_voidp allocate(png_structp png, png_alloc_size_t size) {
    void *memory = std::malloc(size);
    if (memory == nullptr) static_cast<Reader *>(png_get_mem_ptr(png))->out_of_memory = true;
    return memory;
}

void release(png_structp, png_voidp memory) { std::free(memory); }

void read_bytes(png_structp png, png_bytep to, size_t size) {
    auto *reader = static_cast<Reader *>(png_get_io_ptr(png));
    if (size > reader->rest.size()) png_error(png, "premature end of file");
    std::memcpy(to, reader->rest.data(), size);
    reader->rest = reader->rest.subspan(size);
}

bool read_header(Reader *reader) {
    reader->png =
        png_create_read_struct_2(PNG_LIBPNG_VER_STRING, reader, fail, ignore_warning, reader, allocate, release);
    if (reader->png == nullptr) return false;
    png_structp png = reader->png;
    if (setjmp(png_jmpbuf(png)) != 0) return false;
    reader->info = png_create_info_struct(png);
    if (reader->info == nullptr) return false;
    png_set_read_fn(png, reader, read_bytes);
    png_set_user_limits(png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // allocate_pixels() has the limit.
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
    png_read_info(png, reader->info);
    png_get_IHDR(png, reader->info, &reader->width, &reader->height, &reader->depth, &reader->color_type, nullptr,
                 nullptr, nullptr);
    return true;
}

/// To RGB, or for a palette image to one index a byte.
void request_conversions(const Reader &reader) {
    if (reader.color_type == PNG_COLOR_TYPE_PALETTE) return png_set_packing(reader.png);
    if (reader.depth < 8) png_set_expand_gray_1_2_4_to_8(reader.png);
    if (reader.depth == 16) png_set_strip_16(reader.png);
    if ((reader.color_type & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(reader.png);
    if ((reader.color_type & PNG_COLOR_MASK_ALPHA) != 0) png_set_strip_alpha(reader.png);
}

/// In place: `pixels` holds one index at the start of each row.
void apply_palette(const Reader &reader, uint8_t *pixels) {
    png_colorp colors = nullptr;
    int size = 0;
    png_get_PLTE(reader.png, reader.info, &colors, &size);
    std::array<std::array<uint8_t, kRgb>, 256> rgb{};
    for (int i = 0; i < 256; ++i) {
        // PIL 9 gives an index beyond the palette its own value as grey.
        const auto grey = static_cast<uint8_t>(i);
        rgb[i] = i < size ? std::array{colors[i].red, colors[i].green, colors[i].blue} : std::array{grey, grey, grey};
    }
    for (size_t y = 0; y < reader.height; ++y) {
        uint8_t *row = pixels + y * reader.width * kRgb;
        for (size_t x = reader.width; x-- > 0;) std::memcpy(row + x * kRgb, rgb[row[x]].data(), kRgb);
    }
}

bool read_pixels(Reader *reader, uint8_t *pixels) {
    png_structp png = reader->png;
    if (setjmp(png_jmpbuf(png)) != 0) return false;
    request_conversions(*reader);
    const int passes = png_set_interlace_handling(png);
    png_start_read_image(png);
    for (int pass = 0; pass < passes; ++pass) {
        for (size_t y = 0; y < reader->height; ++y) png_read_row(png, pixels + y * reader->width * kRgb, nullptr);
    }
    png_read_end(png, nullptr);
    if (reader->color_type == PNG_COLOR_TYPE_PALETTE) apply_palette(*reader, pixels);
    return true;
}

Status failure(const Reader &reader, const std::string &name) {
    if (reader.out_of_memory || reader.png == nullptr) throw std::bad_alloc();
    return message::bad_input(name, std::string("expected a complete PNG image, found: ") + reader.message.data());
}

}  // namespace

Status decode_png(Bytes file, const std::string &name, Image *image) {
    Reader reader;
    reader.rest = file;
    if (!read_header(&reader)) return failure(reader, name);
    if (reader.color_type == PNG_COLOR_TYPE_GRAY && reader.depth == 16) {
        // PIL 9 clips such levels at 255, which leaves white; later versions of it do otherwise.
        return message::bad_input(name, "expected at most 8 bits of grey without alpha in a PNG image, found 16");
    }
    if (Status status = allocate_pixels(name, reader.width, reader.height, file.size(), kPixelsPerByte, image);
        !status.ok()) {
        return status;
    }
    return read_pixels(&reader, image->pixels.data()) ? Status() : failure(reader, name);
}

}  // namespace shufflenet::detail
