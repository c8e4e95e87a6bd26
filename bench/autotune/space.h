// What the autotuner may change: the genes of each kind of kernel, and the values of each.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "networks/devices.h"
#include "networks/network.h"
#include "networks/targets.h"

namespace shufflenet::bench {

/// Numbers of a schedule by name (schedules/tuning.h); what is not named has its default.
using Candidate = std::map<std::string, int>;

/// One choice: every value is a set of numbers that belong together. The first value sets none: the default.
struct Gene {
    std::string name;
    std::vector<Candidate> values;
};

/// A kernel of a model: name, generator with its parameters, and how often a run of one image calls it.
struct Kernel {
    std::string name, generator;
    std::vector<std::string> parameters;
    int calls;
};

/// All kernels of a network; conv5 without pooling is left out, a run without features does not call it.
std::vector<Kernel> kernels_of(const Network &network);

std::vector<Gene> genes_of(const Kernel &kernel, const Network &network, Size input, const TargetSpec &target);

/// The same of a device: what a model has of them, and those that are worth tuning for it.
std::vector<Kernel> all_device_kernels();
std::vector<Kernel> device_kernels_of(const Network &network, Size input, const DeviceSpec &device);
std::vector<Gene> device_genes_of(const Kernel &kernel, const Network &network, Size input);

}  // namespace shufflenet::bench
