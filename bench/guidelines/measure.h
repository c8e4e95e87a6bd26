// Measurements of the paper's experiments as JSON. Its schema: docs/guidelines/README.md.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "program_runner.h"
#include "shufflenet/descriptor.h"

namespace shufflenet::bench {

using Json = nlohmann::ordered_json;

/// The models at the sizes that their networks are published for, that the build made; generated.
std::vector<const shufflenet_descriptor *> guideline_models();

struct MeasureOptions {
    int threads = 1;
    int rounds = 20;             ///< Turns of each side.
    double turn_seconds = 0.01;  ///< What a turn takes about: several runs where one is shorter.
};

/// A part of the work that is measured and kept as a whole, its sides in turns.
struct MeasuredSet {
    std::string list;  ///< Of the JSON, where it is kept: "tables", "decomposition" or "networks".
    std::string name;  ///< Unique, e.g. "g1/avx512/x1".
    std::function<Json(const MeasureOptions &)> measure;
};

/// Tables at a width for an instruction set. `widths`: so many of each table.
std::vector<MeasuredSet> table_sets(int widths, const std::vector<std::string> &isas);

/// Networks layer by layer, and as the library runs them.
std::vector<MeasuredSet> decomposition_sets(const std::string &isa);

/// All networks' speed as the library runs them, each with those that cost about as much.
std::vector<MeasuredSet> network_sets();

double median(std::vector<double> values);

}  // namespace shufflenet::bench
