// Workers that spin briefly between jobs, so that a fork and join costs about a microsecond.
//
// The distribution's libpthreadpool comes as a shared library only; a model archive must link with nothing but
// libc, libstdc++, libm, pthreads and dl, hence this one.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "shufflenet/status.h"

namespace shufflenet {

class ThreadPool {
  public:
    /// Called with the job's argument, a task number and the number of the executing thread (0: the caller).
    using Task = void (*)(void *argument, int task, int thread);

    ThreadPool() = default;
    ThreadPool(const ThreadPool &) = delete;
    ThreadPool &operator=(const ThreadPool &) = delete;
    ~ThreadPool();

    /// Starts threads - 1 workers; the caller of run() is the remaining one.
    Status start(int threads);

    int threads() const { return static_cast<int>(workers_.size()) + 1; }

    /// Runs tasks 0 .. tasks-1 and returns when all are done. One caller at a time; tasks must not throw.
    void run(int tasks, Task task, void *argument) noexcept;

  private:
    void work(int thread) noexcept;
    bool execute_one(int thread) noexcept;
    uint32_t wait_for_job(uint32_t seen) noexcept;

    std::vector<std::thread> workers_;

    // Job number (upper half) and tasks not yet taken (lower half) in one word: a worker that comes late finds the
    // old job empty, and cannot mistake the next one for it.
    alignas(64) std::atomic<uint64_t> ticket_{0};
    std::atomic<int> tasks_{0};
    std::atomic<Task> task_{nullptr};
    std::atomic<void *> argument_{nullptr};
    alignas(64) std::atomic<int> done_{0};
    alignas(64) std::atomic<uint32_t> job_{0};
    std::atomic<int> sleepers_{0};
    std::atomic<bool> stop_{false};
};

}  // namespace shufflenet
