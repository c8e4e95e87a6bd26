#include "child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;

std::atomic<bool> interrupt_seen{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set in a signal handler");

constexpr int kPollMilliseconds = 100;

struct Pipe {
    std::array<int, 2> ends{-1, -1};
    Pipe() {
        if (pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error(std::string("pipe: ") + std::strerror(errno));
    }
    ~Pipe() {
        close_end(0);
        close_end(1);
    }
    Pipe(const Pipe &) = delete;
    Pipe &operator=(const Pipe &) = delete;
    void close_end(int end) {
        if (ends[end] >= 0) close(ends[end]);
        ends[end] = -1;
    }
};

/// The child's side; does not return.
[[noreturn]] void become(const std::vector<std::string> &command, const Pipe &in, const Pipe &out, const Pipe &err) {
    setpgid(0, 0);
    dup2(in.ends[0], STDIN_FILENO);
    dup2(out.ends[1], STDOUT_FILENO);
    dup2(err.ends[1], STDERR_FILENO);
    std::vector<char *> arguments;
    for (const std::string &word : command) arguments.push_back(const_cast<char *>(word.c_str()));
    arguments.push_back(nullptr);
    execvp(arguments[0], arguments.data());
    const std::string message = command[0] + ": " + std::strerror(errno) + "\n";
    const ssize_t written = write(STDERR_FILENO, message.data(), message.size());
    _exit(written < 0 ? 126 : 127);
}

/// Reads what is there; false at the end.
bool drain(int file, std::string &text) {
    std::array<char, 65536> buffer;
    const ssize_t count = read(file, buffer.data(), buffer.size());
    if (count > 0) text.append(buffer.data(), static_cast<size_t>(count));
    return count > 0 || (count < 0 && (errno == EINTR || errno == EAGAIN));
}

std::string last_line(std::string text) {
    while (!text.empty() && text.back() == '\n') text.pop_back();
    const size_t start = text.rfind('\n');
    return start == std::string::npos ? text : text.substr(start + 1);
}

std::string describe(int status, const std::string &errors) {
    if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
    return "exit status " + std::to_string(WEXITSTATUS(status)) + ": " + last_line(errors);
}

/// Talks to a child through its three pipes.
class Conversation {
  public:
    Conversation(Pipe &in, Pipe &out, Pipe &err, const std::string &input) : in_(in), input_(input) {
        in.close_end(0);
        out.close_end(1);
        err.close_end(1);
        fcntl(in.ends[1], F_SETFL, O_NONBLOCK);
        if (input.empty()) in.close_end(1);
        out_ = out.ends[0];
        err_ = err.ends[0];
    }

    /// Until the child closes its ends, or until `end`, or an interrupt.
    void run(Clock::time_point end) {
        while (!over() && Clock::now() < end && !interrupted()) step();
    }
    bool over() const { return out_ < 0 && err_ < 0; }

    std::string output, errors;

  private:
    void step() {
        std::array<pollfd, 3> files = {{{out_, POLLIN, 0}, {err_, POLLIN, 0}, {in_.ends[1], POLLOUT, 0}}};
        if (poll(files.data(), files.size(), kPollMilliseconds) < 0) return;
        if (files[0].revents != 0 && !drain(out_, output)) out_ = -1;
        if (files[1].revents != 0 && !drain(err_, errors)) err_ = -1;
        if (files[2].revents != 0) send();
    }
    void send() {
        const ssize_t count = write(in_.ends[1], input_.data() + written_, input_.size() - written_);
        if (count > 0) written_ += static_cast<size_t>(count);
        if (written_ == input_.size() || (count < 0 && errno != EAGAIN)) in_.close_end(1);
    }

    Pipe &in_;
    const std::string &input_;
    size_t written_ = 0;
    int out_ = -1, err_ = -1;
};

}  // namespace

bool interrupted() { return interrupt_seen.load(); }

void handle_interrupts() {
    struct sigaction action {};
    action.sa_handler = [](int) { interrupt_seen.store(true); };
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    signal(SIGPIPE, SIG_IGN);
}

ChildResult run_child(const std::vector<std::string> &command, const std::string &input, double seconds) {
    Pipe in, out, err;
    const pid_t child = fork();
    if (child < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
    if (child == 0) become(command, in, out, err);
    // In both processes: whichever comes first, the group is there before anyone kills it.
    setpgid(child, child);

    Conversation talk(in, out, err, input);
    talk.run(Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)));
    if (!talk.over()) kill(-child, SIGKILL);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }

    ChildResult result;
    result.output = std::move(talk.output);
    if (interrupted()) {
        result.failure = "interrupted";
    } else if (!talk.over()) {
        result.failure = "no end within " + std::to_string(static_cast<int>(seconds)) + " s";
    } else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        result.failure = describe(status, talk.errors);
    } else {
        result.ok = true;
    }
    return result;
}

}  // namespace shufflenet::bench
