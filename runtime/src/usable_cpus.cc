#include "usable_cpus.h"

#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string_view>
#include <thread>
#include <vector>

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

/// Of the microseconds that a group may run in every period; INT_MAX: no limit.
int share_cpus(int64_t quota, int64_t period) {
    if (quota <= 0 || period <= 0) return INT_MAX;
    return static_cast<int>(std::min<int64_t>((quota - 1) / period + 1, INT_MAX));
}

/// Version 2, one file: "max 100000" or "150000 100000".
int version_2_cpus(const std::string &folder) {
    std::ifstream file(folder + "/cpu.max");
    int64_t quota = 0, period = 0;
    return file >> quota >> period ? share_cpus(quota, period) : INT_MAX;
}

/// Version 1, two files; a quota of -1 is none.
int version_1_cpus(const std::string &folder) {
    std::ifstream quota_file(folder + "/cpu.cfs_quota_us"), period_file(folder + "/cpu.cfs_period_us");
    int64_t quota = 0, period = 0;
    return quota_file >> quota && period_file >> period ? share_cpus(quota, period) : INT_MAX;
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

bool lists_cpu(const std::string &controllers) {
    std::istringstream list(controllers);
    for (std::string name; std::getline(list, name, ',');) {
        if (name == "cpu") return true;
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
    std::ifstream groups(root + "/proc/self/cgroup");
    const std::string mounts = root + "/sys/fs/cgroup";
    for (std::string line; std::getline(groups, line);) {
        const size_t first = line.find(':'), second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos || line.substr(second + 1, 1) != "/") continue;
        const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
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
