#include "thread_pool.h"

#include <system_error>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace shufflenet {

namespace {

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

constexpr uint64_t first_ticket(uint32_t job, int tasks) { return uint64_t{job} << 32 | static_cast<uint32_t>(tasks); }
constexpr int remaining(uint64_t ticket) { return static_cast<int>(static_cast<uint32_t>(ticket)); }

}  // namespace

ThreadPool::~ThreadPool() {
    stop_.store(true);
    job_.fetch_add(1);
    job_.notify_all();
    for (std::thread &worker : workers_) worker.join();
}

Status ThreadPool::start(int threads) {
    try {
        workers_.reserve(threads - 1);
        for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
    } catch (const std::system_error &error) {
        return {Code::kOutOfMemory, "cannot start thread " + std::to_string(workers_.size() + 1) + " of " +
                                        std::to_string(threads) + ": " + error.what()};
    } catch (const std::bad_alloc &) {
        return {Code::kOutOfMemory, "out of memory for threads"};
    }
    return {};
}

void ThreadPool::run(int tasks, Task task, void *argument) noexcept {
    if (workers_.empty() || tasks <= 1) {
        for (int i = 0; i < tasks; ++i) task(argument, i, 0);
        return;
    }
    task_.store(task, std::memory_order_relaxed);
    argument_.store(argument, std::memory_order_relaxed);
    tasks_.store(tasks, std::memory_order_relaxed);
    done_.store(0, std::memory_order_relaxed);
    const uint32_t job = job_.load(std::memory_order_relaxed) + 1;
    ticket_.store(first_ticket(job, tasks), std::memory_order_release);
    job_.store(job);
    if (sleepers_.load() > 0) job_.notify_all();

    while (execute_one(0)) {
    }
    for (int spins = 0; done_.load(std::memory_order_acquire) != tasks; ++spins) {
        if (spins < kSpinsBeforeYield) {
            pause();
        } else {
            std::this_thread::yield();
        }
    }
}

bool ThreadPool::execute_one(int thread) noexcept {
    uint64_t ticket = ticket_.load(std::memory_order_acquire);
    do {
        if (remaining(ticket) == 0) return false;
    } while (!ticket_.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel));
    // The job cannot end before this task does, so the function and its argument belong to it.
    const Task task = task_.load(std::memory_order_relaxed);
    const int number = tasks_.load(std::memory_order_relaxed) - remaining(ticket);
    task(argument_.load(std::memory_order_relaxed), number, thread);
    done_.fetch_add(1, std::memory_order_acq_rel);
    return true;
}

uint32_t ThreadPool::wait_for_job(uint32_t seen) noexcept {
    for (int spins = 0; spins < kSpinsBeforeSleep; ++spins) {
        const uint32_t job = job_.load(std::memory_order_acquire);
        if (job != seen) return job;
        pause();
    }
    sleepers_.fetch_add(1);
    job_.wait(seen);
    sleepers_.fetch_sub(1);
    return job_.load(std::memory_order_acquire);
}

void ThreadPool::work(int thread) noexcept {
    uint32_t seen = 0;
    while (true) {
        seen = wait_for_job(seen);
        if (stop_.load()) return;
        while (execute_one(thread)) {
        }
    }
}

}  // namespace shufflenet
