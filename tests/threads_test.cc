// What kernels run on: the thread pool, and the hooks through which Halide's code reaches threads and memory.
#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "halide_hooks.h"
#include "host_environment.h"
#include "kernel_context.h"
#include "spin.h"
#include "thread_pool.h"
#include "usable_cpus.h"

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
        ASSERT_TRUE(pool.start(threads, threads).ok());
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
    ASSERT_TRUE(pool.start(3, 3).ok());
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
    ASSERT_TRUE(pool.start(2, 2).ok());
    pool.run(8, Job::run, &job);
    EXPECT_EQ(job.others, 7);
}

TEST(ThreadPool, TakesNoMoreThreadsThanCpus) {
    struct Row {
        int threads, cpus, found, active;
    };
    for (const Row &row : {Row{1, 4, 1, 1}, Row{4, 4, 4, 4}, Row{2, 4, 2, 2}, Row{7, 3, 7, 3}, Row{5, 1, 5, 1},
                           Row{0, 3, 3, 3}, Row{0, 1, 1, 1}, Row{0, 1000, 256, 256}, Row{256, 2, 256, 2}}) {
        const std::string what = std::to_string(row.threads) + " threads, " + std::to_string(row.cpus) + " CPUs";
        ThreadPool pool;
        ASSERT_TRUE(pool.start(row.threads, row.cpus).ok()) << what;
        EXPECT_EQ(pool.threads(), row.found) << what;
        EXPECT_EQ(pool.active(), row.active) << what;
        Counts counts(1000, row.found);
        pool.run(1000, Counts::count, &counts);
        for (const auto &runs : counts.runs) ASSERT_EQ(runs, 1) << what;
        for (int t = row.active; t < row.found; ++t) EXPECT_EQ(counts.threads[t], 0) << what << ", thread " << t;
    }
    for (const int threads : {-1, 257}) EXPECT_EQ(ThreadPool().start(threads).code(), Code::kBadInput) << threads;
}

/// A job whose every task runs jobs of its own, when all threads have a task.
struct NestingJob {
    ThreadPool pool;
    std::atomic<int> arrived{0}, nested{0}, innermost{0}, elsewhere{0};

    struct Task {
        NestingJob *job;
        int thread;
        std::thread::id id;
    };
    static void outer(void *argument, int /*task*/, int thread) {
        auto *job = static_cast<NestingJob *>(argument);
        for (++job->arrived; job->arrived < job->pool.active();) std::this_thread::yield();
        Task task{job, thread, std::this_thread::get_id()};
        job->pool.run(5, inner, &task);
        job->pool.run(1, inner, &task);
    }
    static void inner(void *argument, int /*task*/, int thread) {
        auto *task = static_cast<Task *>(argument);
        ++task->job->nested;
        if (thread != task->thread || std::this_thread::get_id() != task->id) ++task->job->elsewhere;
        task->job->pool.run(
            2, [](void *job, int, int) { ++static_cast<NestingJob *>(job)->innermost; }, task->job);
    }
};

TEST(ThreadPool, JobOfATaskRunsOnItsThread) {
    constexpr int kTasks = 16;
    for (const int threads : {1, 2, 3, 8}) {
        for (int repeat = 0; repeat < 20; ++repeat) {
            NestingJob job;
            ASSERT_TRUE(job.pool.start(threads, threads).ok());
            job.pool.run(kTasks, NestingJob::outer, &job);
            ASSERT_EQ(job.nested, kTasks * 6) << threads << " threads";
            ASSERT_EQ(job.innermost, kTasks * 6 * 2) << threads << " threads";
            ASSERT_EQ(job.elsewhere, 0) << threads << " threads";
            Counts after(100, threads);
            job.pool.run(100, Counts::count, &after);
            for (const auto &runs : after.runs) ASSERT_EQ(runs, 1);
        }
    }
}

TEST(ThreadPool, WorkersComputeInTheDefaultEnvironment) {
    struct Job {
        std::atomic<int> arrived{0}, different{0};
        static void run(void *argument, int, int thread) {
            auto *job = static_cast<Job *>(argument);
            for (++job->arrived; job->arrived < 3;) std::this_thread::yield();
            const auto found = detail::float_control(), expected = detail::kDefaultFloatControl;
            if (thread != 0 && std::memcmp(&found, &expected, sizeof found) != 0) ++job->different;
        }
    };
    for (const HostEnvironment &host : host_environments()) {
        Job job;
        ThreadPool pool;
        {
            const InHostEnvironment environment(host);
            ASSERT_TRUE(pool.start(3, 3).ok());
            pool.run(3, Job::run, &job);
        }
        EXPECT_EQ(job.different, 0) << host.name;
    }
}

std::chrono::nanoseconds cpu_time() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

TEST(Spin, LastsAsLongAsItsBudget) {
    using std::chrono::microseconds;
    for (const microseconds budget : {microseconds(0), microseconds(50), microseconds(1000), microseconds(20'000)}) {
        const auto start = std::chrono::steady_clock::now();
        const auto cpu_start = cpu_time();
        EXPECT_FALSE(spin_until([] { return false; }, budget));
        EXPECT_GE(std::chrono::steady_clock::now() - start, budget);
        // Another process's turn takes time, but none of this thread's.
        EXPECT_LE(cpu_time() - cpu_start, budget + microseconds(2000)) << budget.count();
        int looks = 0;
        EXPECT_TRUE(spin_until([&] { return ++looks == 10; }, budget));
    }
}

/// A folder with the files that say what a process may use.
class FakeRoot {
  public:
    explicit FakeRoot(const std::map<std::string, std::string> &files) {
        std::string name = (std::filesystem::temp_directory_path() / "cpus.XXXXXX").string();
        if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
        path_ = name;
        for (const auto &[file, text] : files) {
            std::filesystem::create_directories((path_ / file).parent_path());
            std::ofstream(path_ / file) << text;
        }
    }
    FakeRoot(const FakeRoot &) = delete;
    FakeRoot &operator=(const FakeRoot &) = delete;
    ~FakeRoot() { std::filesystem::remove_all(path_); }
    std::string path() const { return path_.string(); }

  private:
    std::filesystem::path path_;
};

TEST(UsableCpus, AreNoMoreThanTheQuota) {
    const std::string v1 =
        "12:memory:/docker/a\n4:cpu,cpuacct:/docker/a\n3:cpuset:/docker/a\n1:name=systemd:/docker/a\n";
    const std::string cpu = "sys/fs/cgroup/cpu,cpuacct/", group = "sys/fs/cgroup/";
    struct Row {
        const char *what;
        std::string groups;  ///< /proc/self/cgroup
        std::map<std::string, std::string> files;
        int cpus;
    };
    const Row rows[] = {
        {"no control groups", "", {}, INT_MAX},
        {"version 2, no files", "0::/\n", {}, INT_MAX},
        {"version 2, no quota", "0::/\n", {{group + "cpu.max", "max 100000\n"}}, INT_MAX},
        {"version 2, whole", "0::/\n", {{group + "cpu.max", "400000 100000\n"}}, 4},
        {"version 2, rounded up", "0::/\n", {{group + "cpu.max", "150000 100000\n"}}, 2},
        {"version 2, a bit more than one", "0::/\n", {{group + "cpu.max", "100001 100000\n"}}, 2},
        {"version 2, less than one", "0::/\n", {{group + "cpu.max", "5000 100000\n"}}, 1},
        {"version 2, another period", "0::/\n", {{group + "cpu.max", "30000 10000\n"}}, 3},
        {"version 2, own group",
         "0::/a/b\n",
         {{group + "a/b/cpu.max", "200000 100000\n"}, {group + "a/cpu.max", "max 100000\n"}},
         2},
        {"version 2, a group around it",
         "0::/a/b\n",
         {{group + "a/b/cpu.max", "800000 100000\n"}, {group + "a/cpu.max", "300000 100000\n"}},
         3},
        {"version 2, the host's path", "0::/docker/a\n", {{group + "cpu.max", "200000 100000\n"}}, 2},
        {"version 2, another's group", "0::/a\n", {{group + "b/cpu.max", "100000 100000\n"}}, INT_MAX},
        {"version 2, nonsense", "0::/\n", {{group + "cpu.max", "-5 0\n"}}, INT_MAX},
        {"nonsense", "0\n::\n:::\n4:cpu\n4:cpu:\n", {{group + "cpu.max", "100000 100000\n"}}, INT_MAX},
        {"version 1, no quota",
         v1,
         {{cpu + "docker/a/cpu.cfs_quota_us", "-1\n"}, {cpu + "docker/a/cpu.cfs_period_us", "100000\n"}},
         INT_MAX},
        {"version 1, rounded up",
         v1,
         {{cpu + "docker/a/cpu.cfs_quota_us", "250000\n"}, {cpu + "docker/a/cpu.cfs_period_us", "100000\n"}},
         3},
        {"version 1, in a container",
         v1,
         {{cpu + "cpu.cfs_quota_us", "50000\n"}, {cpu + "cpu.cfs_period_us", "100000\n"}},
         1},
        {"version 1, mounted as cpu",
         v1,
         {{group + "cpu/docker/cpu.cfs_quota_us", "200000\n"}, {group + "cpu/docker/cpu.cfs_period_us", "100000\n"}},
         2},
        {"version 1, other controllers",
         "4:cpuset,cpuacct:/\n",
         {{group + "cpu/cpu.cfs_quota_us", "200000\n"}, {group + "cpu/cpu.cfs_period_us", "100000\n"}},
         INT_MAX},
        {"both versions",
         v1 + "0::/\n",
         {{cpu + "cpu.cfs_quota_us", "700000\n"},
          {cpu + "cpu.cfs_period_us", "100000\n"},
          {group + "cpu.max", "600000 100000\n"}},
         6},
    };
    for (const Row &row : rows) {
        std::map<std::string, std::string> files = row.files;
        files["proc/self/cgroup"] = row.groups;
        EXPECT_EQ(quota_cpus(FakeRoot(files).path()), row.cpus) << row.what;
    }
    EXPECT_EQ(quota_cpus("/no/such/folder"), INT_MAX);
}

/// Confines this thread, and those that it starts, to one of its CPUs.
class OneCpu {
  public:
    OneCpu() {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(sched_getcpu(), &one);
        if (sched_getaffinity(0, sizeof before_, &before_) != 0 || sched_setaffinity(0, sizeof one, &one) != 0) {
            throw std::runtime_error("no affinity");
        }
    }
    OneCpu(const OneCpu &) = delete;
    OneCpu &operator=(const OneCpu &) = delete;
    ~OneCpu() { sched_setaffinity(0, sizeof before_, &before_); }
    int before() const { return CPU_COUNT(&before_); }

  private:
    cpu_set_t before_{};
};

TEST(UsableCpus, AreThoseOfTheAffinity) {
    const int all = affinity_cpus();
    const OneCpu one;
    EXPECT_EQ(all, one.before());
    EXPECT_EQ(affinity_cpus(), 1);
    EXPECT_EQ(usable_cpus(), 1);
    ThreadPool none, two;
    ASSERT_TRUE(none.start(0).ok());
    EXPECT_EQ(none.threads(), 1);
    ASSERT_TRUE(two.start(2).ok());
    EXPECT_EQ(two.threads(), 2);
    EXPECT_EQ(two.active(), 1);
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
        ASSERT_TRUE(pool.start(threads, threads).ok());
        std::vector<Scratch> scratch(threads, scratch_);
        KernelContext context{.pool = &pool, .scratch = scratch.data()};
        const auto body = [](void *, int i, uint8_t *) { return i == 105 ? -7 : 0; };
        EXPECT_EQ(SHUFFLENET_HALIDE(do_par_for)(&context, body, 100, 5, nullptr), 0);
        EXPECT_EQ(SHUFFLENET_HALIDE(do_par_for)(&context, body, 100, 6, nullptr), -7);
        EXPECT_EQ(SHUFFLENET_HALIDE(do_par_for)(&context, body, 100, 0, nullptr), 0);
    }
}

// A loop of a loop, as a schedule could have it: each iteration's scratch memory is its thread's.
TEST_F(Hooks, LoopInALoopRunsOnItsThread) {
    static std::atomic<int> inner{0}, elsewhere{0};
    const auto outer_body = [](void *context, int, uint8_t *) {
        void *own = SHUFFLENET_HALIDE(malloc)(context, 100);
        // NOLINTNEXTLINE(readability-non-const-parameter): the type of Halide's tasks.
        const auto inner_body = [](void *inner_context, int, uint8_t *outers) {
            void *next = SHUFFLENET_HALIDE(malloc)(inner_context, 100);
            // What a thread takes next lies behind what it has.
            if (static_cast<uint8_t *>(next) - outers < 0 || static_cast<uint8_t *>(next) - outers > 1000) ++elsewhere;
            SHUFFLENET_HALIDE(free)(inner_context, next);
            ++inner;
            return 0;
        };
        const int result = SHUFFLENET_HALIDE(do_par_for)(context, inner_body, 0, 4, static_cast<uint8_t *>(own));
        SHUFFLENET_HALIDE(free)(context, own);
        return result;
    };
    constexpr int kThreads = 4, kTasks = 64;
    for (int repeat = 0; repeat < 50; ++repeat) {
        std::vector<std::vector<std::byte>> memory(kThreads, std::vector<std::byte>(8192));
        std::vector<Scratch> scratch;
        for (auto &m : memory) scratch.push_back({.begin = m.data(), .size = m.size()});
        ThreadPool pool;
        ASSERT_TRUE(pool.start(kThreads, kThreads).ok());
        KernelContext context{.pool = &pool, .scratch = scratch.data()};
        inner = elsewhere = 0;
        ASSERT_EQ(SHUFFLENET_HALIDE(do_par_for)(&context, outer_body, 0, kTasks, nullptr), 0);
        ASSERT_EQ(inner, kTasks * 4);
        ASSERT_EQ(elsewhere, 0);
        for (const Scratch &s : scratch) ASSERT_EQ(s.used, 0U);
    }
}

}  // namespace
}  // namespace shufflenet
