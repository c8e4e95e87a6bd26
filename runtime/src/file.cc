#include "file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <deque>
#include <filesystem>
#include <limits>
#include <optional>
#include <system_error>
#include <utility>

#include "log.h"
#include "message.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

/// What is not a regular file may never end.
constexpr size_t kMaxStreamBytes = size_t{1} << 30;

Status failed(const std::string &path, const std::string &what, int error) {
    return message::bad_input(path, what + ": " + std::generic_category().message(error));
}

class Descriptor {
  public:
    explicit Descriptor(int fd) : fd_(fd) {}
    Descriptor(const Descriptor &) = delete;
    Descriptor &operator=(const Descriptor &) = delete;
    ~Descriptor() { close(); }

    bool valid() const { return fd_ >= 0; }
    int get() const { return fd_; }
    /// Some file systems report only here that a write failed.
    bool close() {
        const int fd = release();
        return fd < 0 || ::close(fd) == 0;
    }
    /// Somebody else's to close.
    int release() { return std::exchange(fd_, -1); }

  private:
    int fd_;
};

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

Status write_all(Descriptor &file, const std::string &path, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t count = ::write(file.get(), bytes.data(), bytes.size());
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return failed(path, "cannot be written", count < 0 ? errno : EIO);
        bytes = bytes.subspan(static_cast<size_t>(count));
    }
    if (!file.close()) return failed(path, "cannot be written", errno);
    return {};
}

Status write_straight(const std::string &path, std::span<const std::byte> bytes) {
    // Only a dangling link needs creating; Linux refuses O_CREAT for other users' pipes in /tmp.
    const int create = ::access(path.c_str(), F_OK) == 0 ? 0 : O_CREAT;
    Descriptor file(::open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC | create, 0666));
    if (!file.valid()) return failed(path, "cannot be written", errno);
    return write_all(file, path, bytes);
}

/// The path, links resolved, of the regular file to replace or create; nothing if it must be written straight to.
std::optional<std::string> replaceable(const std::string &path) {
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0 || S_ISREG(info.st_mode)) return path;
    // /dev/stdout may lead to a regular file, but whoever redirected it holds that file, not its name.
    const bool descriptor = path.starts_with("/dev/") || path.starts_with("/proc/");
    if (!S_ISLNK(info.st_mode) || descriptor) return std::nullopt;
    std::error_code error;
    const std::string target = std::filesystem::canonical(path, error).string();
    if (error || ::lstat(target.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return std::nullopt;
    return target;
}

/// A new file beside `target`, removed again unless it has become `target`; errors call it `name`.
class TemporaryFile {
  public:
    TemporaryFile(std::string name, std::string target, mode_t mode)
        : name_(std::move(name)), target_(std::move(target)), file_(create(mode)) {}
    TemporaryFile(const TemporaryFile &) = delete;
    TemporaryFile &operator=(const TemporaryFile &) = delete;
    ~TemporaryFile() {
        if (exists_) ::unlink(path_.c_str());
    }

    Descriptor &file() { return file_; }
    Status replace_target() {
        if (::rename(path_.c_str(), target_.c_str()) != 0) return failed(name_, "cannot be written", errno);
        exists_ = false;
        return {};
    }

  private:
    int create(mode_t mode) {
        static std::atomic<unsigned> count = 0;
        const std::string folder = target_.substr(0, target_.rfind('/') + 1);
        int fd = -1;
        do {
            path_ = folder + ".shufflenet-" + std::to_string(::getpid()) + "-" + std::to_string(++count) + ".tmp";
            fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        } while (fd < 0 && errno == EEXIST);
        exists_ = fd >= 0;
        return fd;
    }

    std::string name_, target_, path_;
    bool exists_ = false;
    Descriptor file_;
};

/// Writes the content beside its target.
Status prepare(const NewFile &file, const std::string &target, std::deque<TemporaryFile> *ready) {
    struct stat old {};
    const bool exists = ::stat(target.c_str(), &old) == 0;
    if (exists && ::access(target.c_str(), W_OK) != 0) return failed(file.path, "cannot be written", errno);
    TemporaryFile &temporary = ready->emplace_back(file.path, target, exists ? old.st_mode & 0777 : 0666);
    if (!temporary.file().valid()) return failed(file.path, "cannot be written", errno);
    return write_all(temporary.file(), file.path, file.bytes);
}

Status write_all_or_none(std::span<const NewFile> files) {
    std::deque<TemporaryFile> ready;
    std::vector<const NewFile *> straight;
    for (const NewFile &file : files) {
        const std::optional<std::string> target = replaceable(file.path);
        if (!target) {
            straight.push_back(&file);
        } else if (Status status = prepare(file, *target, &ready); !status.ok()) {
            return status;
        }
    }
    for (const NewFile *file : straight) {
        if (Status status = write_straight(file->path, file->bytes); !status.ok()) return status;
    }
    for (TemporaryFile &temporary : ready) {
        if (Status status = temporary.replace_target(); !status.ok()) return status;
    }
    for (const NewFile &file : files) log_debug("%s: %zu bytes written", file.path.c_str(), file.bytes.size());
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

Status write_file_atomically(const std::string &path, std::span<const std::byte> bytes) try {
    const NewFile file{path, bytes};
    return write_all_or_none({&file, 1});
} catch (...) {
    return message::from_exception(path);
}

Status write_files_atomically(std::span<const NewFile> files) try { return write_all_or_none(files); } catch (...) {
    return message::from_exception(files.front().path);
}

}  // namespace shufflenet
