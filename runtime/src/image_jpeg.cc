// JPEG through libjpeg-turbo, with the settings that PIL leaves at their defaults: accurate integer DCT and smooth
// chroma upsampling.
//
// libjpeg reports an error by a call that must not return, so each function here that calls it has a setjmp of its
// own and no object with a destructor.
#include <array>
#include <csetjmp>
#include <cstdio>  // jpeglib.h uses FILE without including it.
#include <new>
#include <vector>

#include <jpeglib.h>

#include <jerror.h>

#include "image_decoders.h"
#include "message.h"

namespace shufflenet::inline SHUFFLENET_ABI::detail {
namespace {

/// An all-white grey progressive image, the densest there is, has one bit per block of 64 pixels: 512; doubled.
constexpr int64_t kPixelsPerByte = 1024;

/// Real files have about ten scans; each costs a pass over the image, so a hostile file could ask for hours of work.
constexpr int kMaxScans = 500;

/// libjpeg's state. Its address must not change: libjpeg keeps pointers into it.
struct Reader {
    jpeg_decompress_struct jpeg{};
    jpeg_error_mgr errors{};
    jpeg_progress_mgr progress{};
    std::jmp_buf on_error{};
    std::array<char, JMSG_LENGTH_MAX> message{};

    Reader() = default;
    Reader(const Reader &) = delete;
    Reader &operator=(const Reader &) = delete;
    ~Reader() { jpeg_destroy_decompress(&jpeg); }
};

[[noreturn]] void fail(j_common_ptr jpeg) {
    auto *reader = static_cast<Reader *>(jpeg->client_data);
    jpeg->err->format_message(jpeg, reader->message.data());
    std::longjmp(reader->on_error, 1);
}

/// PIL raises for a file that ends too early and ignores libjpeg's other warnings.
void on_message(j_common_ptr jpeg, int level) {
    if (level < 0 && jpeg->err->msg_code == JWRN_JPEG_EOF) fail(jpeg);
}

void on_progress(j_common_ptr jpeg) {
    auto *reader = static_cast<Reader *>(jpeg->client_data);
    if (reader->jpeg.input_scan_number <= kMaxScans) return;
    std::snprintf(reader->message.data(), reader->message.size(), "expected at most %d scans, found more", kMaxScans);
    std::longjmp(reader->on_error, 1);
}

bool read_header(Reader *reader, Bytes file) {
    jpeg_decompress_struct *jpeg = &reader->jpeg;
    jpeg->err = jpeg_std_error(&reader->errors);
    jpeg->client_data = reader;
    reader->errors.error_exit = fail;
    reader->errors.emit_message = on_message;
    reader->progress.progress_monitor = on_progress;
    if (setjmp(reader->on_error) != 0) return false;
    jpeg_create_decompress(jpeg);
    jpeg->progress = &reader->progress;
    jpeg_mem_src(jpeg, file.data(), file.size());
    jpeg_read_header(jpeg, TRUE);
    jpeg->out_color_space = jpeg->num_components == 4 ? JCS_CMYK : JCS_RGB;
    return true;
}

/// PIL's CMYK to RGB. Always takes the file's values as inverted, as Adobe's programs write them: 255 is no ink.
void cmyk_to_rgb(const uint8_t *cmyk, int width, uint8_t *rgb) {
    for (int x = 0; x < width; ++x, cmyk += 4, rgb += kRgb) {
        const int white = cmyk[3];
        for (int c = 0; c < kRgb; ++c) {
            const int product = (255 - cmyk[c]) * white + 128;
            const int ink = ((product >> 8) + product) >> 8;  // Rounded product / 255.
            rgb[c] = static_cast<uint8_t>(white - ink);
        }
    }
}

/// `cmyk_row`: room for one row of a 4-component image; null for others.
bool read_pixels(Reader *reader, uint8_t *pixels, uint8_t *cmyk_row) {
    jpeg_decompress_struct *jpeg = &reader->jpeg;
    if (setjmp(reader->on_error) != 0) return false;
    jpeg_start_decompress(jpeg);
    const size_t stride = size_t{jpeg->output_width} * kRgb;
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *rgb = pixels + jpeg->output_scanline * stride;
        uint8_t *row = cmyk_row == nullptr ? rgb : cmyk_row;
        jpeg_read_scanlines(jpeg, &row, 1);
        if (cmyk_row != nullptr) cmyk_to_rgb(cmyk_row, static_cast<int>(jpeg->output_width), rgb);
    }
    jpeg_finish_decompress(jpeg);
    return true;
}

Status failure(const Reader &reader, const std::string &name) {
    if (reader.errors.msg_code == JERR_OUT_OF_MEMORY) throw std::bad_alloc();
    return message::bad_input(name, std::string("expected a complete JPEG image, found: ") + reader.message.data());
}

}  // namespace

Status decode_jpeg(Bytes file, const std::string &name, Image *image) {
    Reader reader;
    if (!read_header(&reader, file)) return failure(reader, name);
    const int components = reader.jpeg.num_components;
    if (components != 1 && components != 3 && components != 4) {
        return message::bad_input(name,
                                  "expected a JPEG image of 1, 3 or 4 components, found " + std::to_string(components));
    }
    if (Status status = allocate_pixels(name, reader.jpeg.image_width, reader.jpeg.image_height, file.size(),
                                        kPixelsPerByte, image);
        !status.ok()) {
        return status;
    }
    std::vector<uint8_t> cmyk_row(components == 4 ? size_t{reader.jpeg.image_width} * 4 : 0);
    if (!read_pixels(&reader, image->pixels.data(), cmyk_row.empty() ? nullptr : cmyk_row.data())) {
        return failure(reader, name);
    }
    return {};
}

}  // namespace shufflenet::detail
