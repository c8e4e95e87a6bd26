// Whole text files; errors are std::runtime_error that name the file.
#pragma once

#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "runtime/src/file.h"

namespace shufflenet::bench {

inline std::string read_text(const std::filesystem::path &path) {
    std::vector<std::byte> bytes;
    if (const Status status = read_file(path.string(), &bytes); !status.ok())
        throw std::runtime_error(status.message());
    return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
}

/// The whole file or none of it.
inline void write_text(const std::filesystem::path &path, const std::string &text) {
    const Status status = write_file_atomically(path.string(), std::as_bytes(std::span(text)));
    if (!status.ok()) throw std::runtime_error(status.message());
}

}  // namespace shufflenet::bench
