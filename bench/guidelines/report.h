// The report of the paper's experiments: from their JSON, as Markdown.
#pragma once

#include <string>

#include "measure.h"

namespace shufflenet::bench {

/// What the figures say of each guideline, computed: "verdicts" of the JSON, an object for each table, instruction set
/// and version (unfused, fused).
Json verdicts_of(const Json &result);

/// Tables and verdicts.
std::string markdown_of(const Json &result);

}  // namespace shufflenet::bench
