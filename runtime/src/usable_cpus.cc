#include "usable_cpus.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdint>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include "file.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

// Files are read and parsed without streams, which a static program with another C library cannot initialise.

/// A file's text; empty: there is none.
std::string text_of(const std::string &path) {
    std::vector<std::byte> bytes;
    if (!read_file(path, &bytes).ok()) return {};
    return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
}

/// Takes the text before `end`, or all of it, off the front.
std::string_view take_until(std::string_view *text, char end) {
    const std::string_view taken = text->substr(0, text->find(end));
    text->remove_prefix(std::min(text->size(), taken.size() + 1));
    return taken;
}

/// 0: it is none.
int64_t number_of(std::string_view text) {
    int64_t number = 0;
    return std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc() ? number : 0;
}

/// Of the microseconds that a group may run in every period; INT_MAX: no limit.
int share_cpus(int64_t quota, int64_t period) {
    if (quota <= 0 || period <= 0) return INT_MAX;
    return static_cast<int>(std::min<int64_t>((quota - 1) / period + 1, INT_MAX));
}

/// Version 2, one file: "max 100000" or "150000 100000".
int version_2_cpus(const std::string &folder) {
    const std::string text = text_of(folder + "/cpu.max");
    std::string_view rest = text;
    const int64_t quota = number_of(take_until(&rest, ' '));
    return share_cpus(quota, number_of(rest));
}

/// Version 1, two files; a quota of -1 is none.
int version_1_cpus(const std::string &folder) {
    return share_cpus(number_of(text_of(folder + "/cpu.cfs_quota_us")),
                      number_of(text_of(folder + "/cpu.cfs_period_us")));
}

/// The least of a group and all around it. In a container the path may be the host's, of which only the last mount
/// point is there: folders that do not exist have no files.
int least_cpus(const std::string &mount, std::string path, int (*cpus)(const std::string &)) {
    int least = cpus(mount);
    while (path.size() > 1) {
        least = std::min(least, cpus(mount + path));
        path.resize(path.rfind('/'));
    }
    return least;
}

bool lists_cpu(std::string_view controllers) {
    while (!controllers.empty()) {
        if (take_until(&controllers, ',') == "cpu") return true;
    }
    return false;
}

}  // namespace

int affinity_cpus() {
    // The kernel refuses a mask that is shorter than its own.
    constexpr size_t kMostBytes = size_t{1} << 16;
    for (std::vector<cpu_set_t> set(1); set.size() * sizeof(cpu_set_t) <= kMostBytes; set.resize(2 * set.size())) {
        const size_t bytes = set.size() * sizeof(cpu_set_t);
        if (sched_getaffinity(0, bytes, set.data()) == 0) return CPU_COUNT_S(bytes, set.data());
        if (errno != EINVAL) break;
    }
    return static_cast<int>(std::thread::hardware_concurrency());
}

int quota_cpus(const std::string &root) {
    // Lines are "0::/path" of version 2, "4:cpu,cpuacct:/path" of version 1.
    int least = INT_MAX;
    const std::string groups = text_of(root + "/proc/self/cgroup");
    const std::string mounts = root + "/sys/fs/cgroup";
    for (std::string_view rest = groups; !rest.empty();) {
        std::string_view line = take_until(&rest, '\n');
        take_until(&line, ':');
        const std::string controllers(take_until(&line, ':')), path(line);
        if (!path.starts_with('/')) continue;
        if (controllers.empty()) least = std::min(least, least_cpus(mounts, path, version_2_cpus));
        if (!lists_cpu(controllers)) continue;
        for (const std::string &name : {controllers, std::string("cpu")}) {
            least = std::min(least, least_cpus(mounts + "/" + name, path, version_1_cpus));
        }
    }
    return least;
}

int usable_cpus() { return std::max(1, std::min(affinity_cpus(), quota_cpus())); }

}  // namespace shufflenet::inline SHUFFLENET_ABI
