// A descriptor of an open file, which closes itself, and the words for what the system refuses.
#pragma once

#include <unistd.h>

#include <string>
#include <system_error>
#include <utility>

#include "message.h"
#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// "<path>: <what>: <the system's words for `error`>"
inline Status failed(const std::string &path, const std::string &what, int error) {
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

}  // namespace shufflenet::inline SHUFFLENET_ABI
