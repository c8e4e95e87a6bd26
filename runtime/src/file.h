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

/// The same of what is open already, from where it stands to its end; `name` is what error messages call it.
Status read_stream(int descriptor, const std::string &name, std::vector<std::byte> *bytes);

/// Replaces a file as a whole: on any error the old one is untouched and nothing new is left behind. A symbolic link
/// keeps pointing where it did. What is not a regular file (a device, a pipe, /dev/stdout) is written straight to.
Status write_file_atomically(const std::string &path, std::span<const std::byte> bytes);

struct NewFile {
    std::string path;
    std::span<const std::byte> bytes;
};

/// The same for several files, which must differ: every one is complete beside its place before the first appears
/// there, so that an error leaves all of the old ones. What is written straight to gets its bytes before that.
Status write_files_atomically(std::span<const NewFile> files);

}  // namespace shufflenet
