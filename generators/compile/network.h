// From the command line to a graph.
#pragma once

#include "networks/graph.h"
#include "options.h"

namespace shufflenet::compile {

/// Throws UsageError where sizes do not fit together or there is no such output.
networks::Graph make_graph(const Options &options);

/// Reads the ONNX file, if there is one. Throws std::runtime_error with the node that cannot be compiled.
void import_network(Options *options);

}  // namespace shufflenet::compile
