// How many CPUs a process may use, which a container makes fewer than the machine has.
#pragma once

#include <string>

namespace shufflenet {

/// CPUs that the calling thread may run on (its affinity, which a cpuset limits), or as many as the quotas of its
/// control groups (version 1 or 2) come to, rounded up, if those are fewer; at least 1. Throws std::bad_alloc.
/// `root`: where /proc and /sys are, for tests.
int usable_cpus(const std::string &root = "");

}  // namespace shufflenet
