// Mutants of a PNG file with checksums that fit, for libpng would refuse all others before it looks at them.
#include <zlib.h>

#include <cstddef>
#include <cstdint>

extern "C" size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

namespace {

constexpr size_t kSignature = 8, kLength = 4, kType = 4, kChecksum = 4;

uint32_t read_u32(const uint8_t *from) {
    return uint32_t{from[0]} << 24 | uint32_t{from[1]} << 16 | uint32_t{from[2]} << 8 | from[3];
}

void write_u32(uint32_t value, uint8_t *to) {
    for (int i = 0; i < 4; ++i) to[i] = static_cast<uint8_t>(value >> (24 - 8 * i));
}

/// A chunk is its length, type, data, and the checksum of type and data.
void repair_checksums(uint8_t *data, size_t size) {
    for (size_t at = kSignature; size - at >= kLength + kType + kChecksum;) {
        const size_t length = read_u32(data + at), rest = size - at - kLength - kType - kChecksum;
        if (length > rest) return;
        const uint8_t *type = data + at + kLength;
        write_u32(static_cast<uint32_t>(crc32(0, type, static_cast<uInt>(kType + length))),
                  data + at + kLength + kType + length);
        at += kLength + kType + length + kChecksum;
    }
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    size = LLVMFuzzerMutate(data, size, max_size);
    if (size > kSignature && seed % 16 != 0) repair_checksums(data, size);
    return size;
}
