// Whole files in and out, with every error reported.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "shufflenet/status.h"

namespace shufflenet {

/// Reads a file, or a pipe or device up to 1 GiB.
Status read_file(const std::string &path, std::vector<std::byte> *bytes);

/// Replaces a file as a whole: on any error the old one is untouched and nothing new is left behind. A symbolic link
/// keeps pointing where it did. What is not a regular file (a device, a pipe, /dev/stdout) is written straight to.
Status write_file_atomically(const std::string &path, std::span<const std::byte> bytes);

}  // namespace shufflenet
