// Whole files in and out, with every error reported.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Reads a file, or a pipe or device up to 1 GiB.
Status read_file(const std::string &path, std::vector<std::byte> *bytes);

/// The same of what is open already, from where it stands to its end; `name` is what error messages call it.
Status read_stream(int descriptor, const std::string &name, std::vector<std::byte> *bytes);

/// A regular file that is read piece by piece.
class InputFile {
  public:
    /// `out` stays empty where `path` is no regular file, which only read_file() can read.
    static Status open(const std::string &path, std::shared_ptr<const InputFile> *out);
    InputFile(int descriptor, size_t size, std::string name)
        : descriptor_(descriptor), size_(size), name_(std::move(name)) {}
    InputFile(const InputFile &) = delete;
    InputFile &operator=(const InputFile &) = delete;
    ~InputFile();

    /// When it was opened.
    size_t size() const { return size_; }
    const std::string &name() const { return name_; }
    /// Fills `to` with what is at `offset`; an error if the file has become too short.
    Status read(size_t offset, std::span<std::byte> to) const;

  private:
    int descriptor_;
    size_t size_;
    std::string name_;
};

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
