// Models and processes: fork() after use, the program's signals, and a shared library with a model that comes and goes.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>

#include "allocation_count.h"
#include "blocked_signals.h"
#include "cifar10_x0_5.h"
#include "reference/random_weights.h"
#include "shufflenet/model.h"

namespace shufflenet {
namespace {

using Values = std::vector<float>;

#ifdef __SANITIZE_THREAD__
constexpr bool kChildMayStartThreads = false;  // ThreadSanitizer forbids it where the parent has some.
#else
constexpr bool kChildMayStartThreads = true;
#endif

constexpr int kBatch = 3;
const Values &input() {
    static const Values values = reference::random_input({CIFAR10_X0_5_HEIGHT, CIFAR10_X0_5_WIDTH}, kBatch, 3);
    return values;
}

Values logits(Model &model) {
    Values found(kBatch * CIFAR10_X0_5_CLASSES);
    const Status status = model.run(input(), kBatch, found);
    EXPECT_TRUE(status.ok()) << status.message();
    return found;
}

Model opened(int threads) {
    Model model;
    EXPECT_TRUE(model.open(cifar10_x0_5_descriptor, threads).ok());
    EXPECT_TRUE(model.load_embedded_weights().ok());
    return model;
}

/// Whether `check` holds in a child process.
template <typename F>
bool holds_in_child(F &&check) {
    const pid_t child = fork();
    if (child == 0) _exit(check() ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(Fork, ChildUsesTheParentsModel) {
    for (const int threads : {1, 3}) {
        Model model = opened(threads);
        const Values expected = logits(model);
        const auto works = [&] { return logits(model) == expected && model.threads() == 1; };
        EXPECT_TRUE(holds_in_child(works));
        EXPECT_TRUE(holds_in_child([&] { return works() && holds_in_child(works); })) << "grandchild";
        EXPECT_TRUE(holds_in_child([&] {
            Model moved = std::move(model);  // And destroyed.
            return logits(moved) == expected;
        }));
        EXPECT_EQ(model.threads(), threads);
        EXPECT_EQ(logits(model), expected);
    }
}

TEST(Fork, ChildMakesModelsWithThreads) {
    if (!kChildMayStartThreads) GTEST_SKIP() << "not under ThreadSanitizer";
    Model model = opened(3);
    const Values expected = logits(model);
    EXPECT_TRUE(holds_in_child([&] {
        Model shared;
        if (!model.share(&shared, 2).ok() || shared.threads() != 2 || logits(shared) != expected) return false;
        model = Model();  // Its threads are not to be waited for, nor taken for those of the other.
        Model fresh = opened(2);
        return logits(shared) == expected && logits(fresh) == expected;
    }));
    EXPECT_EQ(logits(model), expected);
}

TEST(Fork, WhileAnotherModelRuns) {
    Model model = opened(2), busy;
    ASSERT_TRUE(model.share(&busy, 2).ok());
    const Values expected = logits(model);
    std::atomic<bool> stop{false};
    std::thread other([&] {
        while (!stop) logits(busy);
    });
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(holds_in_child([&] { return logits(model) == expected; }));
    stop = true;
    other.join();
    EXPECT_EQ(logits(busy), expected);
}

// Signals

/// Blocks a signal, sends it to the process, and says whether a signalfd gets it.
bool arrives_at_signalfd(int signal) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    const int file = signalfd(-1, &set, SFD_CLOEXEC);
    kill(getpid(), signal);
    pollfd arrival{file, POLLIN, 0};
    signalfd_siginfo info{};
    return poll(&arrival, 1, 60'000) == 1 && read(file, &info, sizeof info) == sizeof info &&
           info.ssi_signo == static_cast<uint32_t>(signal);
}

TEST(Signals, BlockedAfterOpenAreNotTakenByWorkers) {
    if (!kChildMayStartThreads) GTEST_SKIP() << "not under ThreadSanitizer";
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGPIPE, SIGCHLD, SIGPROF,
                             SIGXCPU, SIGTSTP, SIGWINCH, SIGRTMIN, SIGRTMAX}) {
        EXPECT_TRUE(holds_in_child([&] {
            Model model = opened(3), shared;
            if (!model.share(&shared, 2).ok()) return false;
            const Values expected = logits(model);
            return arrives_at_signalfd(signal) && logits(model) == expected && logits(shared) == expected;
        })) << strsignal(signal);
    }
}

/// The threads' blocked signals, when all have begun: until then the C library blocks every signal of a new one.
std::map<std::string, uint64_t> blocked_signals_of_started() {
    for (int attempt = 0;; ++attempt) {
        auto found = blocked_signals();
        const auto starting = [](const auto &thread) { return (thread.second >> (SIGSEGV - 1) & 1) != 0; };
        if (attempt == 1000 || std::ranges::none_of(found, starting)) return found;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
}

TEST(Signals, WorkersTakeThoseOfTheirOwnInstructionsAlone) {
    const auto before = blocked_signals();
    const Model model = opened(4);
    size_t workers = 0;
    for (const auto &[thread, blocked] : blocked_signals_of_started()) {
        if (before.contains(thread)) {
            EXPECT_EQ(blocked, before.at(thread)) << "thread " << thread << " was there before";
            continue;
        }
        ++workers;
        for (int signal = 1; signal < NSIG; ++signal) {
            // The C library has the two before SIGRTMIN for itself.
            if (signal == SIGKILL || signal == SIGSTOP || (signal > 31 && signal < SIGRTMIN)) continue;
            const bool own = std::set{SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS}.contains(signal);
            EXPECT_EQ(blocked >> (signal - 1) & 1, own ? 0 : 1) << strsignal(signal);
        }
    }
    EXPECT_EQ(workers, 3);
}

// A shared library

std::ptrdiff_t threads() {
    return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
}

struct Mappings {
    int all = 0, of_library = 0;
};

Mappings mappings() {
    Mappings found;
    std::ifstream file("/proc/self/maps");
    for (std::string line; std::getline(file, line);) {
        ++found.all;
        if (line.ends_with(SHUFFLENET_LOADED_MODEL)) ++found.of_library;
    }
    return found;
}

/// The library's own copy of the model, by its C interface.
class LoadedModel {
  public:
    LoadedModel() : library_(dlopen(SHUFFLENET_LOADED_MODEL, RTLD_NOW | RTLD_LOCAL)) {
        if (library_ == nullptr) throw std::runtime_error(dlerror());
        if (function<decltype(cifar10_x0_5_open)>("open")(&model_, nullptr, 3, nullptr, 0) != 0) {
            throw std::runtime_error("cannot open the model");
        }
    }
    LoadedModel(const LoadedModel &) = delete;
    LoadedModel &operator=(const LoadedModel &) = delete;
    ~LoadedModel() {
        function<decltype(cifar10_x0_5_close)>("close")(model_);
        EXPECT_EQ(dlclose(library_), 0) << dlerror();
    }

    /// Also says how many allocations the run made.
    Values logits(long *allocations) const {
        const auto run = function<decltype(cifar10_x0_5_run)>("run");
        Values found(kBatch * CIFAR10_X0_5_CLASSES);
        const long before = allocation_count();
        const int result = run(model_, input().data(), kBatch, found.data());
        *allocations = allocation_count() - before;
        EXPECT_EQ(result, 0);
        return found;
    }

  private:
    template <typename F>
    F *function(const char *name) const {
        auto *found = reinterpret_cast<F *>(dlsym(library_, (std::string("cifar10_x0_5_") + name).c_str()));
        if (found == nullptr) throw std::runtime_error(dlerror());
        return found;
    }
    void *library_;
    cifar10_x0_5_model *model_ = nullptr;
};

TEST(SharedLibrary, ComesAndGoes) {
    constexpr int kTimes = 100, kFirst = 10;
    Model model = opened(1);
    const Values expected = logits(model);
    const auto threads_before = threads();
    Mappings before;
    for (int i = 0; i < kTimes; ++i) {
        {
            const LoadedModel loaded;
            EXPECT_GT(mappings().of_library, 0);
            long made = 0;
            EXPECT_EQ(loaded.logits(&made), expected);
        }
        ASSERT_EQ(mappings().of_library, 0) << "it is still loaded";
        ASSERT_EQ(threads(), threads_before);
        // By then the loader has what it keeps.
        if (i == kFirst) before = mappings();
    }
    // What stays at each time would be there a hundred times; the allocator adds an arena when threads come in each
    // other's way. Sanitizers' allocators keep what is freed for a while, in mappings of their own.
    if (kCountsAllocations) {
        EXPECT_LT(mappings().all - before.all, kTimes / 10);
    }
}

TEST(SharedLibrary, AllocatesNothingInARunOnANewThread) {
    if (!kCountsAllocations) GTEST_SKIP() << "sanitizers interpose malloc";
    const LoadedModel loaded;
    long made = -1;
    std::thread([&] { loaded.logits(&made); }).join();
    EXPECT_EQ(made, 0);
}

}  // namespace
}  // namespace shufflenet
