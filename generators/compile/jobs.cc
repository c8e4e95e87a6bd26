#include "jobs.h"

#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <utility>

#include "process.h"

namespace shufflenet::compile {

namespace {

/// In the child: the result goes to the pipe, or, with exit status 1, the exception's text. Nothing of the parent's is
/// flushed or destroyed a second time.
[[noreturn]] void run_child(const Job &job, int out) {
    int status = 1;
    std::string text;
    try {
        text = job.run();
        status = 0;
    } catch (const std::exception &error) {
        text = error.what();
    } catch (...) {
        text = "an unknown exception";
    }
    if (!write_all(out, text)) status = 1;
    _exit(status);
}

class Child {
  public:
    Child(const Job &job, size_t number)
        : number_(number), name_(job.name), process_(start_process([&] { run_child(job, pipe_.write_end()); })) {
        pipe_.close_write_end();
    }
    Child(const Child &) = delete;
    Child &operator=(const Child &) = delete;
    ~Child() {
        if (process_ <= 0) return;
        kill(process_, SIGKILL);
        waitpid(process_, nullptr, 0);
    }

    size_t number() const { return number_; }
    int descriptor() const { return pipe_.read_end(); }

    /// Takes what there is to read. False: it has said all.
    bool read_some() { return pipe_.read_some(&text_); }

    /// When it has said all: what it returned.
    std::string finish() {
        const int status = wait_for(std::exchange(process_, 0));
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return std::move(text_);
        if (WIFSIGNALED(status)) text_ = std::string("ended by a signal: ") + strsignal(WTERMSIG(status));
        while (text_.ends_with('\n')) text_.pop_back();
        throw std::runtime_error(name_ + ": " + (text_.empty() ? "ended without a result" : text_));
    }

  private:
    size_t number_;
    std::string name_, text_;
    Pipe pipe_;
    pid_t process_;
};

using Children = std::vector<std::unique_ptr<Child>>;

/// Which of them have something to say.
std::vector<bool> wait_for_any(const Children &children) {
    std::vector<int> descriptors;
    for (const auto &child : children) descriptors.push_back(child->descriptor());
    return wait_readable(descriptors);
}

}  // namespace

int default_jobs() {
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof set, &set) == 0 ? std::max(CPU_COUNT(&set), 1) : 1;
}

std::vector<std::string> run_jobs(const std::vector<Job> &jobs, int at_once,
                                  const std::function<void(size_t done)> &done) {
    std::vector<std::string> results(jobs.size());
    Children children;
    size_t begun = 0, finished = 0;
    while (finished < jobs.size()) {
        for (; begun < jobs.size() && children.size() < static_cast<size_t>(at_once); ++begun) {
            children.push_back(std::make_unique<Child>(jobs[begun], begun));
        }
        const std::vector<bool> ready = wait_for_any(children);
        for (size_t i = children.size(); i-- > 0;) {
            if (!ready[i] || children[i]->read_some()) continue;
            results[children[i]->number()] = children[i]->finish();
            children.erase(children.begin() + static_cast<std::ptrdiff_t>(i));
            ++finished;
            if (done) done(finished);
        }
    }
    return results;
}

}  // namespace shufflenet::compile
