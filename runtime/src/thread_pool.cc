#include "thread_pool.h"

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

constexpr int kMaxThreads = 256;

// Longer than the gaps within a run (a few microseconds), short enough not to burn a core between runs.
constexpr int kSpinsBeforeSleep = 4000;
// With more threads than cores the thread that is waited for may need this one's core.
constexpr int kSpinsBeforeYield = 500;

void pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

constexpr int kTaskBits = 20;
constexpr uint64_t kTaskMask = (uint64_t{1} << kTaskBits) - 1;

constexpr uint32_t kJobMask = (uint32_t{1} << (64 - 2 * kTaskBits)) - 1;

constexpr uint64_t pack(uint32_t job, uint64_t first, uint64_t end) {
    return uint64_t{job} << 2 * kTaskBits | first << kTaskBits | end;
}
constexpr uint32_t job_of(uint64_t share) { return static_cast<uint32_t>(share >> 2 * kTaskBits); }
constexpr uint64_t first_of(uint64_t share) { return share >> kTaskBits & kTaskMask; }
constexpr uint64_t end_of(uint64_t share) { return share & kTaskMask; }

/// Forks between this process and the first that used the library.
std::atomic<unsigned> generation{0};

/// Throws std::bad_alloc.
void count_forks() {
    static const bool counted = [] {
        if (pthread_atfork(nullptr, nullptr, [] { ++generation; }) != 0) throw std::bad_alloc();
        return true;
    }();
    static_cast<void>(counted);
}

}  // namespace

class ThreadPool::Workers {
  public:
    Workers() = default;
    Workers(const Workers &) = delete;
    Workers &operator=(const Workers &) = delete;
    ~Workers();

    Status start(int threads);
    int threads() const { return static_cast<int>(workers_.size()) + 1; }
    /// Whether they are those of a parent process.
    bool orphaned() const { return generation_ != generation.load(std::memory_order_relaxed); }
    void run(int tasks, Task task, void *argument) noexcept;

  private:
    /// A thread's own tasks of a job, in one cache line, which is all that a worker must fetch to begin.
    struct alignas(64) Share {
        /// Job (24 bits), first and end of the tasks not yet taken (20 bits each) in one word, so that a thread that
        /// comes late cannot mistake one job's tasks for another's.
        std::atomic<uint64_t> tasks{0};
        std::atomic<Task> task{nullptr};
        std::atomic<void *> argument{nullptr};
    };

    void work(int thread) noexcept;
    /// Executes its own share in order, then others' from their ends.
    void execute(int thread) noexcept;
    static bool execute_one(Share &share, bool from_end, int thread) noexcept;
    /// Returns the job's tag once it is not `seen`, or when the pool stops.
    uint32_t wait_for_job(int thread, uint32_t seen) noexcept;

    std::vector<std::thread> workers_;
    std::unique_ptr<Share[]> shares_;
    unsigned generation_ = 0;  ///< Of the process that started them.

    alignas(64) std::atomic<uint32_t> job_{0};
    std::atomic<int> sleepers_{0};
    std::atomic<bool> stop_{false};
    alignas(64) std::atomic<int> done_{0};
};

ThreadPool::ThreadPool() = default;
ThreadPool::~ThreadPool() = default;

Status ThreadPool::start(int threads) {
    if (threads < 1 || threads > kMaxThreads) {
        return {Code::kBadInput,
                "threads: expected 1 to " + std::to_string(kMaxThreads) + ", found " + std::to_string(threads)};
    }
    if (threads == 1) return {};
    try {
        workers_ = std::make_unique<Workers>();
    } catch (const std::bad_alloc &) {
        return {Code::kOutOfMemory, "out of memory for threads"};
    }
    return workers_->start(threads);
}

int ThreadPool::threads() const { return workers_ == nullptr || workers_->orphaned() ? 1 : workers_->threads(); }

void ThreadPool::run(int tasks, Task task, void *argument) noexcept {
    if (workers_ != nullptr && !workers_->orphaned() && tasks > 1 && static_cast<uint64_t>(tasks) <= kTaskMask) {
        return workers_->run(tasks, task, argument);
    }
    for (int i = 0; i < tasks; ++i) task(argument, i, 0);
}

ThreadPool::Workers::~Workers() {
    if (orphaned()) {
        // Nobody to join, and glibc may have given the thread's memory to another one: forgotten, not destroyed.
        for (std::thread &worker : workers_) new (&worker) std::thread;
        return;
    }
    stop_.store(true);
    job_.store((job_.load() + 1) & kJobMask);
    job_.notify_all();
    for (std::thread &worker : workers_) worker.join();
}

Status ThreadPool::Workers::start(int threads) {
    try {
        count_forks();
        generation_ = generation.load();
        shares_ = std::make_unique<Share[]>(threads);
        workers_.reserve(threads - 1);
        for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
    } catch (const std::system_error &error) {
        return {Code::kOutOfMemory, "cannot start thread " + std::to_string(workers_.size() + 2) + " of " +
                                        std::to_string(threads) + ": " + error.what()};
    } catch (const std::bad_alloc &) {
        return {Code::kOutOfMemory, "out of memory for threads"};
    }
    return {};
}

void ThreadPool::Workers::run(int tasks, Task task, void *argument) noexcept {
    done_.store(0, std::memory_order_relaxed);
    const uint32_t job = (job_.load(std::memory_order_relaxed) + 1) & kJobMask;
    const int64_t count = threads();
    for (int64_t t = count - 1; t >= 0; --t) {
        shares_[t].task.store(task, std::memory_order_relaxed);
        shares_[t].argument.store(argument, std::memory_order_relaxed);
        const uint64_t share = pack(job, t * tasks / count, (t + 1) * tasks / count);
        shares_[t].tasks.store(share, std::memory_order_release);
    }
    job_.store(job);
    if (sleepers_.load() > 0) job_.notify_all();

    execute(0);
    for (int spins = 0; done_.load(std::memory_order_acquire) != tasks; ++spins) {
        if (spins < kSpinsBeforeYield) {
            pause();
        } else {
            std::this_thread::yield();
        }
    }
}

bool ThreadPool::Workers::execute_one(Share &share, bool from_end, int thread) noexcept {
    uint64_t tasks = share.tasks.load(std::memory_order_acquire);
    uint64_t rest = 0;
    do {
        if (first_of(tasks) == end_of(tasks)) return false;
        rest = from_end ? tasks - 1 : tasks + (uint64_t{1} << kTaskBits);
    } while (!share.tasks.compare_exchange_weak(tasks, rest, std::memory_order_acq_rel));
    // The job cannot end before this task does, so the function and its argument belong to it.
    const uint64_t number = from_end ? end_of(rest) : first_of(tasks);
    const Task task = share.task.load(std::memory_order_relaxed);
    task(share.argument.load(std::memory_order_relaxed), static_cast<int>(number), thread);
    return true;
}

void ThreadPool::Workers::execute(int thread) noexcept {
    const int count = threads();
    int executed = 0;
    while (execute_one(shares_[thread], false, thread)) ++executed;
    // Before looking at the others' shares: who waits for the end should not wait for that.
    if (executed > 0) done_.fetch_add(executed, std::memory_order_acq_rel);
    for (int other = 1; other < count; ++other) {
        while (execute_one(shares_[(thread + other) % count], true, thread)) {
            done_.fetch_add(1, std::memory_order_acq_rel);
        }
    }
}

uint32_t ThreadPool::Workers::wait_for_job(int thread, uint32_t seen) noexcept {
    for (int spins = 0; spins < kSpinsBeforeSleep; ++spins) {
        const uint32_t job = job_of(shares_[thread].tasks.load(std::memory_order_acquire));
        if (job != seen || stop_.load(std::memory_order_relaxed)) return job;
        pause();
    }
    sleepers_.fetch_add(1);
    job_.wait(seen);
    sleepers_.fetch_sub(1);
    return job_.load(std::memory_order_acquire);
}

void ThreadPool::Workers::work(int thread) noexcept {
    uint32_t seen = 0;
    while (true) {
        seen = wait_for_job(thread, seen);
        if (stop_.load()) return;
        execute(thread);
    }
}

}  // namespace shufflenet
