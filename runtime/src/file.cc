#include "file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "file_descriptor.h"
#include "log.h"
#include "message.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

/// What is not a regular file may never end.
constexpr size_t kMaxStreamBytes = size_t{1} << 30;

Status read_all(int file, const std::string &path, std::vector<std::byte> *bytes) {
    struct stat info {};
    if (::fstat(file, &info) != 0) return failed(path, "cannot be read", errno);
    const bool regular = S_ISREG(info.st_mode);
    const size_t limit = regular ? std::numeric_limits<size_t>::max() : kMaxStreamBytes;
    std::vector<std::byte> content;
    // One byte more than expected, so that the end is found without growing.
    content.resize(regular ? static_cast<size_t>(info.st_size) + 1 : size_t{1} << 16);
    size_t size = 0;
    for (;;) {
        const ssize_t count = ::read(file, content.data() + size, content.size() - size);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return failed(path, "cannot be read", errno);
        if (count == 0) break;
        size += static_cast<size_t>(count);
        if (size >= limit) {
            return message::bad_input(path, "expected less than " + std::to_string(limit) + " bytes, found more");
        }
        if (size == content.size()) content.resize(std::min(2 * size, limit));
    }
    log_debug("%s: %zu bytes read", path.c_str(), size);
    content.resize(size);
    *bytes = std::move(content);
    return {};
}

}  // namespace

Status read_file(const std::string &path, std::vector<std::byte> *bytes) try {
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return failed(path, "cannot be opened", errno);
    return read_all(file.get(), path, bytes);
} catch (...) {
    return message::from_exception(path);
}

Status read_stream(int descriptor, const std::string &name, std::vector<std::byte> *bytes) try {
    return read_all(descriptor, name, bytes);
} catch (...) {
    return message::from_exception(name);
}

Status InputFile::open(const std::string &path, std::shared_ptr<const InputFile> *out) try {
    Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return failed(path, "cannot be opened", errno);
    struct stat info {};
    if (::fstat(file.get(), &info) != 0) return failed(path, "cannot be read", errno);
    if (!S_ISREG(info.st_mode)) return {};
    auto opened = std::make_shared<const InputFile>(file.get(), static_cast<size_t>(info.st_size), path);
    file.release();
    log_debug("%s: %zu bytes, opened", path.c_str(), opened->size());
    *out = std::move(opened);
    return {};
} catch (...) {
    return message::from_exception(path);
}

InputFile::~InputFile() { ::close(descriptor_); }

Status InputFile::read(size_t offset, std::span<std::byte> to) const {
    while (!to.empty()) {
        const ssize_t count = ::pread(descriptor_, to.data(), to.size(), static_cast<off_t>(offset));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return failed(name_, "cannot be read", errno);
        if (count == 0) {
            return message::bad_input(name_, "expected " + std::to_string(size_) + " bytes, found only " +
                                                 std::to_string(offset) + " while reading");
        }
        offset += static_cast<size_t>(count);
        to = to.subspan(static_cast<size_t>(count));
    }
    return {};
}

Status read_start(const std::string &path, size_t most, FileStart *out) try {
    std::shared_ptr<const InputFile> file;
    if (Status status = InputFile::open(path, &file); !status.ok()) return status;
    FileStart start;
    // Those of /proc claim to be empty.
    const bool whole = file == nullptr || file->size() == 0;
    if (!whole) start.bytes.resize(std::min(most, file->size()));
    Status status = whole ? read_file(path, &start.bytes) : file->read(0, start.bytes);
    if (!status.ok()) return status;
    start.size = whole ? start.bytes.size() : file->size();
    *out = std::move(start);
    return {};
} catch (...) {
    return message::from_exception(path);
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
