// What the autotuner may change: the genes of each kind of kernel, and the values of each.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "networks/program.h"
#include "networks/targets.h"

namespace shufflenet::bench {

/// Numbers of a schedule by name (schedules/tuning.h); what is not named has its default.
using Candidate = std::map<std::string, int>;

/// One choice: every value is a set of numbers that belong together. The first value sets none: the default.
struct Gene {
    std::string name;
    std::vector<Candidate> values;
};

/// A kernel of a program.
struct TunedKernel {
    int number;            ///< In the program.
    std::string key;       ///< By which tuned numbers are found.
    std::string name;      ///< The first of the calls, for messages.
    int calls;             ///< Of a run of one image.
    double multiply_adds;  ///< Of one call.
    networks::Kernel shape;
};

std::vector<TunedKernel> kernels_of(const networks::Program &program);

/// None: there is nothing to choose.
std::vector<Gene> genes_of(const networks::Kernel &kernel, const TargetSpec &target);

}  // namespace shufflenet::bench
