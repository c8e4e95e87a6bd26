#include "peak.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <vector>

#include "runtime/src/isa.h"
#include "runtime/src/thread_pool.h"

namespace shufflenet {

namespace {

using Clock = std::chrono::steady_clock;

// The peak is the fastest of many short pieces of work: others may use the machine too, but hardly interrupt each one.
// So much CPU time, not time, because a thread may have to wait for its turn; it also covers the clock's ramp.
constexpr std::chrono::milliseconds kCpuTime{20};
// Where an emulator takes all that time for one.
constexpr int kLeastPieces = 10;
// About 10 microseconds: much against reading the clock.
constexpr int64_t kIterations = 5000;

struct Loop {
    std::string_view isa;
    void (*run)(int64_t iterations);
    double flops;  // Of one iteration.
};

#if defined(__x86_64__)

// Whole loops in assembly, so that no compiler flag is needed and no compiler can spill or combine anything. Each has
// 12 to 14 independent chains: two units with a latency of four or five cycles need 10.

// clang-format off
#define CLOBBERED                                                                                \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",     \
    "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc"

#define SET_XMM(n) "movaps %%xmm15, %%xmm" #n "\n\t"
#define ADD_MUL(sum, product) "addps %%xmm14, %%xmm" #sum "\n\tmulps %%xmm15, %%xmm" #product "\n\t"

void loop_sse41(int64_t iterations) {
    const float one = 1.0F;
    asm volatile(
        "movss %[one], %%xmm15\n\t"
        "shufps $0, %%xmm15, %%xmm15\n\t"
        SET_XMM(0) SET_XMM(1) SET_XMM(2) SET_XMM(3) SET_XMM(4) SET_XMM(5) SET_XMM(6) SET_XMM(7)
        SET_XMM(8) SET_XMM(9) SET_XMM(10) SET_XMM(11) SET_XMM(12) SET_XMM(13) SET_XMM(14)
        "1:\n\t"
        ADD_MUL(0, 7) ADD_MUL(1, 8) ADD_MUL(2, 9) ADD_MUL(3, 10)
        ADD_MUL(4, 11) ADD_MUL(5, 12) ADD_MUL(6, 13)
        "dec %[n]\n\t"
        "jnz 1b"
        : [n] "+r"(iterations)
        : [one] "m"(one)
        : CLOBBERED);
}

#define SET(r, n) "vbroadcastss %[one], %%" r #n "\n\t"
#define FMA(r, n) "vfmadd231ps %%" r "12, %%" r "13, %%" r #n "\n\t"
#define DEFINE_FMA_LOOP(name, r)                                                                 \
    void name(int64_t iterations) {                                                              \
        const float one = 1.0F;                                                                  \
        asm volatile(                                                                            \
            SET(r, 0) SET(r, 1) SET(r, 2) SET(r, 3) SET(r, 4) SET(r, 5) SET(r, 6)                \
            SET(r, 7) SET(r, 8) SET(r, 9) SET(r, 10) SET(r, 11) SET(r, 12) SET(r, 13)            \
            "1:\n\t"                                                                             \
            FMA(r, 0) FMA(r, 1) FMA(r, 2) FMA(r, 3) FMA(r, 4) FMA(r, 5)                          \
            FMA(r, 6) FMA(r, 7) FMA(r, 8) FMA(r, 9) FMA(r, 10) FMA(r, 11)                        \
            "dec %[n]\n\t"                                                                       \
            "jnz 1b\n\t"                                                                         \
            "vzeroupper"                                                                         \
            : [n] "+r"(iterations)                                                               \
            : [one] "m"(one)                                                                     \
            : CLOBBERED);                                                                        \
    }
// clang-format on

DEFINE_FMA_LOOP(loop_avx2, "ymm")
DEFINE_FMA_LOOP(loop_avx512, "zmm")

constexpr std::array<Loop, 4> kLoops = {{
    {"sse41", loop_sse41, 14.0 * 4},
    {"avx2", loop_avx2, 12.0 * 8 * 2},
    {"avx512", loop_avx512, 12.0 * 16 * 2},
    {"avx512x2", loop_avx512, 12.0 * 16 * 2},
}};

#elif defined(__aarch64__)

// Two units with a latency of four cycles need 8 chains, four units 16. A loop in assembly, as above.

// clang-format off
#define SET(n) "movi v" #n ".4s, #0\n\t"
#define FMA(n) "fmla v" #n ".4s, v24.4s, v25.s[0]\n\t"
#define TWENTY_FOUR(f)                                                                           \
    f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15)        \
    f(16) f(17) f(18) f(19) f(20) f(21) f(22) f(23)

void loop_neon(int64_t iterations) {
    asm volatile(
        TWENTY_FOUR(SET) SET(24) SET(25)
        "1:\n\t"
        TWENTY_FOUR(FMA)
        "subs %[n], %[n], #1\n\t"
        "b.ne 1b"
        : [n] "+r"(iterations)
        :
        : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12",
          "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24",
          "v25", "cc");
}
// clang-format on

constexpr std::array<Loop, 1> kLoops = {{{"neon", loop_neon, 24.0 * 4 * 2}}};

#else

constexpr std::array<Loop, 0> kLoops;

#endif

struct Job {
    const Loop &loop;
    std::atomic<int> to_begin, to_end;
    std::vector<std::chrono::nanoseconds> fastest;  ///< Piece of each thread.
};

std::chrono::nanoseconds cpu_time() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

/// Computes pieces until every thread has done enough, so that all of these were timed while the others computed too.
void time_pieces(void *argument, int task, int /*thread*/) {
    auto *job = static_cast<Job *>(argument);
    // A task for each thread, and none ends before all have begun.
    for (--job->to_begin; job->to_begin > 0;) std::this_thread::yield();
    auto fastest = std::chrono::nanoseconds::max();
    const auto end = cpu_time() + kCpuTime;
    bool enough = false;
    for (int piece = 1; job->to_end > 0; ++piece) {
        const auto start = Clock::now();
        job->loop.run(kIterations);
        fastest = std::min<std::chrono::nanoseconds>(fastest, Clock::now() - start);
        if (enough || piece < kLeastPieces || cpu_time() < end) continue;
        enough = true;
        --job->to_end;
    }
    job->fastest[task] = fastest;
}

double measure(const Loop &loop, int threads) {
    ThreadPool pool;
    if (const Status status = pool.start(threads); !status.ok()) throw std::runtime_error(status.message());
    const int active = pool.active();
    Job job{loop, active, active, std::vector<std::chrono::nanoseconds>(active)};
    pool.run(active, time_pieces, &job);
    double gflops = 0;
    for (const auto fastest : job.fastest) gflops += kIterations * loop.flops / static_cast<double>(fastest.count());
    return gflops;
}

}  // namespace

double fma_peak_gflops(const std::string &isa, int threads) {
    for (const Loop &loop : kLoops) {
        if (loop.isa == isa && cpu_has(isa)) return measure(loop, threads);
    }
    throw std::runtime_error("multiply-add peak: this CPU does not have " + isa);
}

}  // namespace shufflenet
