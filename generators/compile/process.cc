#include "process.h"

#include <fcntl.h>
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

volatile std::sig_atomic_t interrupted = 0;

void on_interrupt(int signal) { interrupted = signal; }

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
    const ssize_t count = read(ends_[0], buffer.data(), buffer.size());
    if (count < 0) {
        if (errno != EINTR) fail("read");
        check_interrupts();
        return true;
    }
    text->append(buffer.data(), static_cast<size_t>(count));
    return count > 0;
}

std::string Pipe::read_all() const {
    std::string text;
    while (read_some(&text)) {
    }
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

void catch_interrupts() {
    // No SA_RESTART: what waits is to end.
    struct sigaction action {};
    action.sa_handler = on_interrupt;
    for (const int signal : kInterrupts) sigaction(signal, &action, nullptr);
}

void check_interrupts() {
    if (interrupted != 0) throw std::runtime_error("interrupted");
}

}  // namespace shufflenet::compile
