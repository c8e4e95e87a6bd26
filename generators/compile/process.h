// Child processes and pipes, as far as the compiler needs them.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace shufflenet::compile {

class Pipe {
  public:
    /// Throws std::system_error. Programs that are started do not inherit it.
    Pipe();
    Pipe(const Pipe &) = delete;
    Pipe &operator=(const Pipe &) = delete;
    ~Pipe();

    int read_end() const { return ends_[0]; }
    int write_end() const { return ends_[1]; }
    void close_read_end() { close_end(0); }
    void close_write_end() { close_end(1); }

    /// Appends what there is to read, at least a byte. False: that was all.
    bool read_some(std::string *text) const;
    std::string read_all() const;
    /// A few bytes, that fit: nobody reads yet. Closes the end.
    void fill(std::string_view text);

  private:
    void close_end(int end);
    int ends_[2];
};

/// A child that runs `body` and ends with it, at the latest with this process.
pid_t start_process(const std::function<void()> &body);

/// As waitpid() gives it.
int wait_for(pid_t child);

/// Writes all of it; false: it could not.
bool write_all(int descriptor, std::string_view text);

/// Waits until one of them can be read; says which can. Throws once the user or the system interrupts this process, if
/// it catches that: what was begun is then cleared away.
std::vector<bool> wait_readable(const std::vector<int> &descriptors);
void catch_interrupts();

}  // namespace shufflenet::compile
