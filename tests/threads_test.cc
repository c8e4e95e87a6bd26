// What kernels run on: the thread pool, and the hooks through which Halide's code reaches threads and memory.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <set>
#include <vector>

#include "halide_hooks.h"
#include "kernel_context.h"
#include "thread_pool.h"

namespace shufflenet {
namespace {

struct Counts {
    std::vector<std::atomic<int>> runs;
    std::vector<std::atomic<int>> threads;
    Counts(int tasks, int thread_count) : runs(tasks), threads(thread_count) {}
    static void count(void *argument, int task, int thread) {
        auto *self = static_cast<Counts *>(argument);
        ++self->runs.at(task);
        ++self->threads.at(thread);
    }
};

TEST(ThreadPool, RunsEveryTaskOnce) {
    for (const int threads : {1, 2, 3, 5}) {
        ThreadPool pool;
        ASSERT_TRUE(pool.start(threads).ok());
        EXPECT_EQ(pool.threads(), threads);
        for (const int tasks : {0, 1, 2, 3, 7, 64, 1000}) {
            Counts counts(tasks, threads);
            pool.run(tasks, Counts::count, &counts);
            for (int i = 0; i < tasks; ++i) EXPECT_EQ(counts.runs[i], 1) << i << " of " << tasks;
        }
    }
}

TEST(ThreadPool, JobsDoNotMix) {
    // Short jobs one after another: a worker that comes late for one must not take a task of the next twice.
    ThreadPool pool;
    ASSERT_TRUE(pool.start(3).ok());
    for (int job = 0; job < 20'000; ++job) {
        const int tasks = 2 + job % 5;
        Counts counts(tasks, 3);
        pool.run(tasks, Counts::count, &counts);
        for (int i = 0; i < tasks; ++i) ASSERT_EQ(counts.runs[i], 1) << "job " << job;
    }
}

TEST(ThreadPool, WhoIsDoneTakesFromTheOthers) {
    // Thread 0 is busy with its first task until all others have run: they can only have been taken from it.
    struct Job {
        std::atomic<int> others{0};
        static void run(void *argument, int task, int) {
            auto *job = static_cast<Job *>(argument);
            if (task != 0) {
                ++job->others;
                return;
            }
            while (job->others.load() < 7) std::this_thread::yield();
        }
    } job;
    ThreadPool pool;
    ASSERT_TRUE(pool.start(2).ok());
    pool.run(8, Job::run, &job);
    EXPECT_EQ(job.others, 7);
}

class Hooks : public testing::Test {
  protected:
    void *take(size_t size) { return SHUFFLENET_HALIDE(malloc)(&context_, size); }
    void give(void *memory) { SHUFFLENET_HALIDE(free)(&context_, memory); }

    alignas(64) std::byte memory_[64 * 1024]{};
    Scratch scratch_{.begin = memory_, .size = sizeof memory_};
    KernelContext context_{.scratch = &scratch_};
};

TEST_F(Hooks, MemoryIsAlignedAndApart) {
    std::vector<unsigned char *> blocks;
    for (const size_t size : {1, 64, 65, 1000, 4096}) {
        auto *block = static_cast<unsigned char *>(take(size));
        ASSERT_NE(block, nullptr);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % 64, 0U);
        std::memset(block, static_cast<int>(blocks.size()) + 1, size);
        blocks.push_back(block);
    }
    for (size_t i = 0; i < blocks.size(); ++i) EXPECT_EQ(blocks[i][0], i + 1);
    for (unsigned char *block : blocks) give(block);
    EXPECT_EQ(scratch_.used, 0U);
}

TEST_F(Hooks, MemoryIsFreedInAnyOrder) {
    // Halide frees a tensor after its last use, which need not be the tensor that was made last.
    void *a = take(1000);
    void *b = take(1000);
    give(a);
    auto *c = static_cast<unsigned char *>(take(1000));
    EXPECT_NE(c, b) << "b is still in use";
    std::memset(c, 1, 1000);
    give(c);
    give(b);
    EXPECT_EQ(scratch_.used, 0U);
    EXPECT_EQ(take(1000), a) << "space is reused";
}

TEST_F(Hooks, NoMemoryIsNull) {
    EXPECT_EQ(take(sizeof memory_), nullptr);
    EXPECT_EQ(take(SIZE_MAX), nullptr);
    EXPECT_EQ(take(SIZE_MAX - 100), nullptr);
    EXPECT_NE(take(1000), nullptr);
    context_.scratch = nullptr;
    EXPECT_EQ(take(1), nullptr);
    EXPECT_EQ(SHUFFLENET_HALIDE(malloc)(nullptr, 1), nullptr);
}

TEST_F(Hooks, LoopReturnsAFailedTasksResult) {
    for (const int threads : {1, 2}) {
        ThreadPool pool;
        ASSERT_TRUE(pool.start(threads).ok());
        std::vector<Scratch> scratch(threads, scratch_);
        KernelContext context{.pool = &pool, .scratch = scratch.data()};
        const auto body = [](void *, int i, uint8_t *) { return i == 105 ? -7 : 0; };
        EXPECT_EQ(SHUFFLENET_HALIDE(do_par_for)(&context, body, 100, 5, nullptr), 0);
        EXPECT_EQ(SHUFFLENET_HALIDE(do_par_for)(&context, body, 100, 6, nullptr), -7);
        EXPECT_EQ(SHUFFLENET_HALIDE(do_par_for)(&context, body, 100, 0, nullptr), 0);
    }
}

}  // namespace
}  // namespace shufflenet
