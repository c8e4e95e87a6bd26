// The orientation of a photograph: one tag of its EXIF data, which are a small TIFF file.
#include <string_view>

#include "image_decoders.h"

namespace shufflenet::detail {
namespace {

constexpr uint32_t kOrientationTag = 0x0112;
constexpr uint32_t kShort = 3, kLong = 4;  // Types of values.
constexpr size_t kHeaderBytes = 8, kEntryBytes = 12;

struct Tiff {
    Bytes file;
    bool big_endian = false;

    /// The number at `offset`; what lies beyond the end of the file reads as 0.
    uint32_t number(size_t offset, size_t bytes) const {
        uint32_t value = 0;
        for (size_t i = 0; i < bytes; ++i) {
            const size_t at = offset + (big_endian ? i : bytes - 1 - i);
            value = value << 8 | (at < file.size() ? file[at] : 0U);
        }
        return value;
    }
};

}  // namespace

int exif_orientation(Bytes exif) {
    if (exif.size() < kHeaderBytes) return kUpright;
    const std::string_view magic(reinterpret_cast<const char *>(exif.data()), 4);
    const bool big_endian = magic == std::string_view("MM\0*", 4);
    if (!big_endian && magic != std::string_view("II*\0", 4)) return kUpright;
    const Tiff tiff{exif, big_endian};
    const size_t directory = tiff.number(4, 4);
    const size_t entries = tiff.number(directory, 2);
    for (size_t i = 0; i < entries; ++i) {
        const size_t entry = directory + 2 + i * kEntryBytes;
        if (tiff.number(entry, 2) != kOrientationTag) continue;
        const uint32_t type = tiff.number(entry + 2, 2), count = tiff.number(entry + 4, 4);
        if ((type != kShort && type != kLong) || count != 1) return kUpright;
        const uint32_t value = tiff.number(entry + 8, type == kShort ? 2 : 4);
        return value >= 1 && value <= kOrientations ? static_cast<int>(value) : kUpright;
    }
    return kUpright;
}

}  // namespace shufflenet::detail
