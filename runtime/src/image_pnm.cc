// Binary PPM (P6) and PGM (P5) of any maximum, scaled to 8 bits as PIL does.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "image_decoders.h"
#include "message.h"

namespace shufflenet::inline SHUFFLENET_ABI::detail {
namespace {

constexpr int kMaxDigits = 10;

struct Header {
    int channels = 0;
    int64_t width = 0, height = 0, maximum = 0;
    size_t size = 0;  ///< Bytes before the first sample.
};

bool is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/// Skips a comment, the end of its line included.
void skip_line(Bytes file, size_t *at) {
    while (*at < file.size()) {
        const uint8_t c = file[(*at)++];
        if (c == '\n' || c == '\r') return;
    }
}

/// Reads a number and the one blank after it. A '#' starts a comment, even within the number. -1: no number there.
int64_t read_number(Bytes file, size_t *at) {
    int64_t value = 0;
    int digits = 0;
    while (*at < file.size()) {
        const uint8_t c = file[(*at)++];
        if (c == '#') {
            skip_line(file, at);
        } else if (is_space(c)) {
            if (digits > 0) return value;
        } else if (c >= '0' && c <= '9' && digits < kMaxDigits) {
            value = value * 10 + (c - '0');
            ++digits;
        } else {
            return -1;
        }
    }
    return -1;
}

Status read_header(Bytes file, const std::string &name, Header *h) {
    h->channels = file[1] == '6' ? kRgb : 1;
    h->size = 2;
    if (file.size() < 3 || !is_space(file[2])) {
        return message::bad_input(name, "expected a blank after the P5 or P6 of a PGM or PPM file");
    }
    h->width = read_number(file, &h->size);
    h->height = read_number(file, &h->size);
    h->maximum = read_number(file, &h->size);
    if (h->width < 0 || h->height < 0 || h->maximum < 0) {
        return message::bad_input(name, "expected width, height and maximum at the start of a PGM or PPM file");
    }
    if (h->maximum == 0 || h->maximum > 65535) {
        return message::bad_input(
            name, "expected a maximum of 1 to 65535 in a PGM or PPM file, found " + std::to_string(h->maximum));
    }
    if (h->channels == 1 && h->maximum > 255) {
        // PIL 9 clips such levels at 255, which leaves white; later versions of it do otherwise.
        return message::bad_input(
            name, "expected a maximum of at most 255 in a PGM file, found " + std::to_string(h->maximum));
    }
    return {};
}

/// PIL's scaling; like Python's round(), nearbyint() rounds a half to even.
uint8_t scale(int64_t sample, int64_t maximum) {
    return static_cast<uint8_t>(
        std::min(255.0, std::nearbyint(static_cast<double>(sample) / static_cast<double>(maximum) * 255)));
}

}  // namespace

Status decode_pnm(Bytes file, const std::string &name, Image *image) {
    Header h;
    if (Status status = read_header(file, name, &h); !status.ok()) return status;
    if (Status status = allocate_pixels(name, h.width, h.height, file.size(), 1, image); !status.ok()) return status;
    const Bytes data = file.subspan(h.size);
    const size_t sample_bytes = h.maximum > 255 ? 2 : 1;
    const size_t samples = static_cast<size_t>(h.width * h.height) * h.channels;
    if (data.size() < samples * sample_bytes) {
        return message::bad_input(name, "truncated: expected " + std::to_string(samples * sample_bytes) +
                                            " bytes of samples, found " + std::to_string(data.size()));
    }
    std::array<uint8_t, 256> level{};
    for (int i = 0; i < 256; ++i) level[i] = scale(i, h.maximum);
    uint8_t *out = image->pixels.data();
    for (size_t i = 0; i < samples; ++i) {
        const uint8_t value =
            sample_bytes == 1 ? level[data[i]] : scale(data[2 * i] * 256 + data[2 * i + 1], h.maximum);
        out = std::fill_n(out, kRgb / h.channels, value);
    }
    return {};
}

}  // namespace shufflenet::detail
