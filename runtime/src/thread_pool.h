// Workers that spin briefly between jobs, so that a fork and join costs about a microsecond.
//
// The distribution's libpthreadpool comes as a shared library only; a model archive must link with nothing but
// libc, libstdc++, libm, pthreads and dl, hence this one.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
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

    /// Runs tasks 0 .. tasks-1 and returns when all are done. One caller at a time; tasks must not throw. Each thread
    /// starts with an equal run of neighbouring tasks, the same for equal counts, so that it finds in its cache what
    /// it wrote in the job before; who is done takes from the others.
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

    alignas(64) std::atomic<uint32_t> job_{0};
    std::atomic<int> sleepers_{0};
    std::atomic<bool> stop_{false};
    alignas(64) std::atomic<int> done_{0};
};

}  // namespace shufflenet
