// The thread pool of a build without threads (SHUFFLENET_THREADS=OFF): the caller does everything.
#include <string>

#include "thread_pool.h"

namespace shufflenet::inline SHUFFLENET_ABI {

class ThreadPool::Workers {};

ThreadPool::ThreadPool() = default;
ThreadPool::~ThreadPool() = default;

// NOLINTBEGIN(readability-convert-member-functions-to-static): members in thread_pool.cc.
Status ThreadPool::start(int threads) {
    if (threads == 1) return {};
    return {Code::kBadInput, "threads: expected 1, because this build has no threads (SHUFFLENET_THREADS=OFF), found " +
                                 std::to_string(threads)};
}

int ThreadPool::threads() const { return 1; }

void ThreadPool::run(int tasks, Task task, void *argument) noexcept {
    for (int i = 0; i < tasks; ++i) task(argument, i, 0);
}
// NOLINTEND(readability-convert-member-functions-to-static)

}  // namespace shufflenet
