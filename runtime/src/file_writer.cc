// Apart from the reader, because a model's library only reads.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "file.h"
#include "file_descriptor.h"
#include "log.h"
#include "message.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

namespace fs = std::filesystem;
using Bytes = std::span<const std::byte>;

constexpr const char *kCannotBeWritten = "cannot be written";

/// While it lives, a write beyond `ulimit -f` or to a pipe without a reader is an error, not this process's end.
class HeldSignals {
  public:
    HeldSignals() {
        sigset_t held;
        ::sigemptyset(&held);
        for (const int signal : kSignals) ::sigaddset(&held, signal);
        ::pthread_sigmask(SIG_BLOCK, &held, &before_);
        ::sigpending(&pending_);
    }
    HeldSignals(const HeldSignals &) = delete;
    HeldSignals &operator=(const HeldSignals &) = delete;
    ~HeldSignals() {
        for (const int signal : kSignals) {
            if (::sigismember(&pending_, signal) == 0) forget(signal);
        }
        ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

  private:
    static constexpr std::array<int, 2> kSignals = {SIGXFSZ, SIGPIPE};

    static void forget(int signal) {
        const timespec at_once{};
        sigset_t one;
        ::sigemptyset(&one);
        ::sigaddset(&one, signal);
        while (::sigtimedwait(&one, nullptr, &at_once) == signal) {
        }
    }

    sigset_t before_{}, pending_{};
};

/// 0, or the error.
int write_bytes(int file, Bytes bytes) noexcept {
    while (!bytes.empty()) {
        const ssize_t count = ::write(file, bytes.data(), bytes.size());
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return count < 0 ? errno : EIO;
        bytes = bytes.subspan(static_cast<size_t>(count));
    }
    return 0;
}

/// 0, or the error. What is there is cut only at the end, so that there is room to put it back.
int overwrite(int file, Bytes bytes) noexcept {
    if (::lseek(file, 0, SEEK_SET) != 0) return errno;
    if (const int error = write_bytes(file, bytes); error != 0) return error;
    return ::ftruncate(file, static_cast<off_t>(bytes.size())) == 0 && ::fsync(file) == 0 ? 0 : errno;
}

std::string folder_of(const std::string &path) { return path.substr(0, path.rfind('/') + 1); }

// Where to write

struct Destination {
    std::string path;  ///< Links resolved, but those of /proc.
    bool file;         ///< A regular file, there or to be made; anything else is written straight to.
};

bool in_proc(const std::string &path) {
    constexpr long kProc = 0x9fa0;  // PROC_SUPER_MAGIC of linux/magic.h, which not every C library brings.
    struct statfs info {};
    return ::statfs((folder_of(path) + ".").c_str(), &info) == 0 && info.f_type == kProc;
}

Destination destination_of(std::string path) {
    struct stat info {};
    // The kernel may not follow: a loop, somebody else's link in /tmp.
    if (::stat(path.c_str(), &info) != 0 && errno != ENOENT) return {path, false};
    while (::lstat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
        // /dev/stdout may lead to a regular file, but whoever redirected it holds that file, not its name.
        if (!S_ISLNK(info.st_mode) || in_proc(path)) return {path, false};
        std::error_code error;
        const fs::path link = fs::read_symlink(path, error);
        if (error) return {path, false};
        path = (fs::path(path).parent_path() / link).string();
    }
    return {path, true};
}

// What is written straight to

/// A descriptor of this process is written to from where it stands: opening its file again would cut that off.
int open_straight(const std::string &path) {
    for (const std::string_view folder : {"/proc/self/fd/", "/dev/fd/"}) {
        if (!path.starts_with(folder)) continue;
        return ::fcntl(std::atoi(path.c_str() + folder.size()), F_DUPFD_CLOEXEC, 0);
    }
    return ::open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOCTTY);
}

Status write_straight(const NewFile &file, const std::string &path) {
    Descriptor to(open_straight(path));
    if (!to.valid()) return failed(file.path, kCannotBeWritten, errno);
    int error = write_bytes(to.get(), file.bytes);
    if (error == 0 && !to.close()) error = errno;
    return error == 0 ? Status() : failed(file.path, kCannotBeWritten, error);
}

// Regular files

/// Access lists, labels and what the user attached. The others tell about the content, or are the system's.
bool is_kept(std::string_view attribute) {
    return attribute.starts_with("user.") || attribute == "system.posix_acl_access" || attribute == "security.selinux";
}

/// What `call(buffer, size)` fills, which says how much that is if it is given nothing. Empty on an error.
template <typename F>
std::string filled(F call) {
    std::string buffer(static_cast<size_t>(std::max<ssize_t>(0, call(nullptr, 0))), '\0');
    buffer.resize(static_cast<size_t>(std::max<ssize_t>(0, call(buffer.data(), buffer.size()))));
    return buffer;
}

std::map<std::string, std::string> attributes_of(const std::string &path) {
    std::map<std::string, std::string> attributes;
    const std::string names = filled([&](char *to, size_t size) { return ::llistxattr(path.c_str(), to, size); });
    for (size_t at = 0; at < names.size(); at = names.find('\0', at) + 1) {
        const char *name = &names[at];
        if (!is_kept(name)) continue;
        attributes[name] = filled([&](char *to, size_t size) { return ::lgetxattr(path.c_str(), name, to, size); });
    }
    return attributes;
}

bool copy_attributes(const std::string &from, const std::string &to) {
    const auto wanted = attributes_of(from), found = attributes_of(to);
    for (const auto &[name, value] : found) {
        if (!wanted.contains(name) && ::lremovexattr(to.c_str(), name.c_str()) != 0) return false;
    }
    return std::ranges::all_of(wanted, [&](const auto &attribute) {
        const auto &[name, value] = attribute;
        const auto same = found.find(name);
        return (same != found.end() && same->second == value) ||
               ::lsetxattr(to.c_str(), name.c_str(), value.data(), value.size(), 0) == 0;
    });
}

/// Whether the system forbids a change of the folder, where the file itself may still be writable.
bool folder_is_fixed(int error) {
    return error == EACCES || error == EPERM || error == EROFS || error == EBUSY || error == EXDEV;
}

std::string unused_name(const std::string &beside) {
    static std::atomic<unsigned> count = 0;
    return folder_of(beside) + ".shufflenet-" + std::to_string(::getpid()) + "-" + std::to_string(++count) + ".tmp";
}

/// One file's way to its place: its content is made ready beside it, takes its place, and is kept. Unless it is kept,
/// everything becomes as it was.
class Replacement {
  public:
    Replacement(const NewFile &file, std::string target)
        : file_(file), target_(std::move(target)), folder_(folder_of(target_) + ".") {}
    Replacement(const Replacement &) = delete;
    Replacement &operator=(const Replacement &) = delete;
    ~Replacement() {
        if (!kept_) take_back();
        if (!beside_.empty()) ::unlink(beside_.c_str());
        if (!old_name_.empty()) ::unlink(old_name_.c_str());
    }

    /// Nothing is seen of it yet.
    Status prepare() {
        struct stat old {};
        exists_ = ::stat(target_.c_str(), &old) == 0;
        if (exists_ && ::faccessat(AT_FDCWD, target_.c_str(), W_OK, AT_EACCESS) != 0) return cannot_be_written(errno);
        if (exists_ && old.st_nlink > 1) return in_place("it has " + std::to_string(old.st_nlink) + " hard links");
        Descriptor file(create(exists_ ? 0600 : 0666));
        if (!file.valid() && exists_ && folder_is_fixed(errno)) return in_place(no_new_file(errno));
        if (!file.valid()) return cannot_be_written(errno);
        if (exists_ && !inherit(file.get(), old)) return in_place("a new file cannot have its owner and access rights");
        int error = write_bytes(file.get(), file_.bytes);
        if (error == 0 && (::fsync(file.get()) != 0 || !file.close())) error = errno;
        return error == 0 ? Status() : cannot_be_written(error);
    }

    /// `last`: nothing can fail after it, so that the old file need not wait.
    Status commit(bool last) {
        if (in_place_.empty()) {
            const bool safe = !exists_ || last || set_old_aside();
            if (safe && ::rename(beside_.c_str(), target_.c_str()) == 0) {
                beside_.clear();
                replaced_ = true;
                return {};
            }
            if (!exists_ || !folder_is_fixed(errno)) return cannot_be_written(errno);
            in_place_ = no_new_file(errno);
        }
        return write_in_place();
    }

    void keep() noexcept {
        kept_ = true;
        if (!in_place_.empty()) log_note("%s: written in place: %s", file_.path.c_str(), in_place_.c_str());
        if (!replaced_) return;
        // The new name, too, survives a crash, where the file system can say so.
        const Descriptor folder(::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (folder.valid()) ::fsync(folder.get());
    }

  private:
    Status cannot_be_written(int error) const { return failed(file_.path, kCannotBeWritten, error); }

    Status in_place(std::string why) {
        in_place_ = std::move(why);
        return {};
    }
    static std::string no_new_file(int error) {
        return "no new file can take its place (" + std::generic_category().message(error) + ")";
    }

    int create(mode_t mode) {
        int fd = -1;
        do {
            beside_ = unused_name(target_);
            fd = ::open(beside_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        } while (fd < 0 && errno == EEXIST);
        if (fd < 0) beside_.clear();
        return fd;
    }

    /// Makes the new file the old one's equal; false if it may not be.
    bool inherit(int file, const struct stat &old) const {
        constexpr mode_t kRights = 0777;  // A write takes set-user-ID away, too.
        struct stat fresh {};
        if (::fstat(file, &fresh) != 0) return false;
        const bool owned = fresh.st_uid == old.st_uid && fresh.st_gid == old.st_gid;
        return (owned || ::fchown(file, old.st_uid, old.st_gid) == 0) && ::fchmod(file, old.st_mode & kRights) == 0 &&
               copy_attributes(target_, beside_);
    }

    /// Under another name; not every file system has hard links.
    bool set_old_aside() {
        int result = -1;
        do {
            old_name_ = unused_name(target_);
            result = ::link(target_.c_str(), old_name_.c_str());
        } while (result != 0 && errno == EEXIST);
        if (result == 0 || ::rename(target_.c_str(), old_name_.c_str()) == 0) return true;
        old_name_.clear();
        return false;
    }

    Status write_in_place() {
        place_.emplace(::open(target_.c_str(), O_RDWR | O_CLOEXEC));
        if (!place_->valid()) return cannot_be_written(errno);
        if (Status status = read_stream(place_->get(), file_.path, &old_content_); !status.ok()) return status;
        replaced_content_ = true;
        const int error = overwrite(place_->get(), file_.bytes);
        return error == 0 ? Status() : cannot_be_written(error);
    }

    void take_back() noexcept {
        if (replaced_content_) overwrite(place_->get(), old_content_);
        if (!old_name_.empty()) {
            ::rename(old_name_.c_str(), target_.c_str());
        } else if (replaced_) {
            ::unlink(target_.c_str());
        }
    }

    const NewFile &file_;
    std::string target_, folder_, beside_, old_name_;
    bool exists_ = false, replaced_ = false, replaced_content_ = false, kept_ = false;
    std::string in_place_;  ///< Why, if that is how it is written.
    std::optional<Descriptor> place_;
    std::vector<std::byte> old_content_;
};

Status write_all_or_none(std::span<const NewFile> files) {
    const HeldSignals held;
    std::deque<Replacement> replacements;
    std::vector<std::pair<const NewFile *, std::string>> straight;
    for (const NewFile &file : files) {
        const Destination to = destination_of(file.path);
        if (!to.file) {
            straight.emplace_back(&file, to.path);
        } else if (Status status = replacements.emplace_back(file, to.path).prepare(); !status.ok()) {
            return status;
        }
    }
    for (const auto &[file, path] : straight) {
        if (Status status = write_straight(*file, path); !status.ok()) return status;
    }
    for (Replacement &replacement : replacements) {
        if (Status status = replacement.commit(&replacement == &replacements.back()); !status.ok()) return status;
    }
    for (Replacement &replacement : replacements) replacement.keep();
    for (const NewFile &file : files) log_debug("%s: %zu bytes written", file.path.c_str(), file.bytes.size());
    return {};
}

}  // namespace

Status write_file_atomically(const std::string &path, Bytes bytes) try {
    const NewFile file{path, bytes};
    return write_all_or_none({&file, 1});
} catch (...) {
    return message::from_exception(path);
}

Status write_files_atomically(std::span<const NewFile> files) try { return write_all_or_none(files); } catch (...) {
    return message::from_exception(files.front().path);
}

std::string written_file(const std::string &path) {
    const Destination to = destination_of(path);
    struct stat info {};
    const auto number = [&] { return std::to_string(info.st_dev) + ":" + std::to_string(info.st_ino); };
    if (!to.file) return {};
    if (::stat(to.path.c_str(), &info) == 0) return number();
    const std::string folder = folder_of(to.path);
    return ::stat((folder + ".").c_str(), &info) == 0 ? number() + "/" + to.path.substr(folder.size()) : "";
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
