// As if the machine had many CPUs: models then use as many threads as a test asks for.
#include <sched.h>

#include <cstring>

extern "C" int sched_getaffinity(pid_t /*process*/, size_t size, cpu_set_t *set) noexcept {
    std::memset(set, 0xFF, size);
    return 0;
}
