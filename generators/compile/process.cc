#include "process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <stdexcept>
#include <system_error>

namespace shufflenet::compile {

namespace {

[[noreturn]] void fail(const char *what) { throw std::system_error(errno, std::generic_category(), what); }

/// A signal that comes just before poll() would not end it; what lies in a pipe does.
int interrupt_pipe[2] = {-1, -1};

void on_interrupt(int /*signal*/) {
    const int before = errno;
    (void)!write(interrupt_pipe[1], "", 1);
    errno = before;
}

constexpr std::array kInterrupts = {SIGINT, SIGTERM, SIGHUP};

}  // namespace

Pipe::Pipe() {
    if (pipe2(ends_, O_CLOEXEC) != 0) fail("pipe");
}

Pipe::~Pipe() {
    close_end(0);
    close_end(1);
}

void Pipe::close_end(int end) {
    if (ends_[end] >= 0) close(ends_[end]);
    ends_[end] = -1;
}

bool Pipe::read_some(std::string *text) const {
    std::array<char, 4096> buffer;
    ssize_t count = 0;
    do {
        count = read(ends_[0], buffer.data(), buffer.size());
    } while (count < 0 && errno == EINTR);
    if (count < 0) fail("read");
    text->append(buffer.data(), static_cast<size_t>(count));
    return count > 0;
}

std::string Pipe::read_all() const {
    std::string text;
    do {
        wait_readable({ends_[0]});
    } while (read_some(&text));
    return text;
}

void Pipe::fill(std::string_view text) {
    if (!write_all(ends_[1], text)) fail("write");
    close_write_end();
}

pid_t start_process(const std::function<void()> &body) {
    const pid_t parent = getpid();
    const pid_t child = fork();
    if (child < 0) fail("fork");
    if (child > 0) return child;
    for (const int signal : kInterrupts) std::signal(signal, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent) body();
    _exit(1);
}

int wait_for(pid_t child) {
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) fail("waitpid");
    }
    return status;
}

bool write_all(int descriptor, std::string_view text) {
    while (!text.empty()) {
        const ssize_t count = write(descriptor, text.data(), text.size());
        if (count < 0 && errno != EINTR) return false;
        if (count > 0) text.remove_prefix(static_cast<size_t>(count));
    }
    return true;
}

std::vector<bool> wait_readable(const std::vector<int> &descriptors) {
    std::vector<pollfd> polled;
    for (const int descriptor : descriptors) polled.push_back({descriptor, POLLIN, 0});
    // A negative one is passed over.
    polled.push_back({interrupt_pipe[0], POLLIN, 0});
    while (poll(polled.data(), polled.size(), -1) < 0) {
        if (errno != EINTR) fail("poll");
    }
    if (polled.back().revents != 0) throw std::runtime_error("interrupted");
    polled.pop_back();
    std::vector<bool> readable;
    for (const pollfd &one : polled) readable.push_back(one.revents != 0);
    return readable;
}

void catch_interrupts() {
    if (pipe2(interrupt_pipe, O_CLOEXEC | O_NONBLOCK) != 0) fail("pipe");
    struct sigaction action {};
    action.sa_handler = on_interrupt;
    for (const int signal : kInterrupts) sigaction(signal, &action, nullptr);
}

}  // namespace shufflenet::compile
