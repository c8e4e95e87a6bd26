// How many CPUs a process may use, which a container makes fewer than the machine has.
#pragma once

#include <string>

#include "shufflenet/version.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// CPUs that the calling thread may run on: its affinity, which a cpuset limits.
int affinity_cpus();

/// As many as the quotas of the process's control groups come to, version 1 or 2, rounded up; INT_MAX: no quota.
/// `root`: where /proc and /sys are.
int quota_cpus(const std::string &root = "");

/// The lesser of both, at least 1. Throws std::bad_alloc.
int usable_cpus();

}  // namespace shufflenet::inline SHUFFLENET_ABI
