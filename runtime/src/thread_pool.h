// Workers that spin briefly between jobs, so that a fork and join costs about a microsecond.
//
// The distribution's libpthreadpool comes as a shared library only; a model archive must link with nothing but
// libc, libstdc++, libm and pthreads, hence this one. A build without threads has no_threads.cc instead of
// thread_pool.cc.
//
// A child process, made by fork(), has the one thread that called it: there, a pool of the parent's runs its jobs on
// the caller alone.
#pragma once

#include <memory>

#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI {

class ThreadPool {
  public:
    /// Called with the job's argument, a task number and the number of the executing thread (0: the caller).
    using Task = void (*)(void *argument, int task, int thread);

    ThreadPool();
    ThreadPool(const ThreadPool &) = delete;
    ThreadPool &operator=(const ThreadPool &) = delete;
    ~ThreadPool();

    /// Starts threads - 1 workers; the caller of run() is the remaining one. `threads`: 1 to 256, without threads 1.
    Status start(int threads);

    int threads() const;

    /// Runs tasks 0 .. tasks-1 and returns when all are done. One caller at a time; tasks must not throw. Each thread
    /// starts with an equal run of neighbouring tasks, the same for equal counts, so that it finds in its cache what
    /// it wrote in the job before; who is done takes from the others.
    void run(int tasks, Task task, void *argument) noexcept;

  private:
    class Workers;
    std::unique_ptr<Workers> workers_;  ///< None: the caller does everything.
};

}  // namespace shufflenet
