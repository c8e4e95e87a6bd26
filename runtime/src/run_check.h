// What a run on any machine has in common: outputs and their shapes, and the check of what run() is given.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "shufflenet/descriptor.h"
#include "shufflenet/model.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// The model that runs.
struct RunShape {
    const shufflenet_descriptor *descriptor;
    const shufflenet_program *program;
    int classes_output;  ///< See checkpoint.h.
    int classes;         ///< Of that output, as the weights have them.

    std::span<const shufflenet_output> outputs() const { return {program->outputs, size_t(program->outputs_count)}; }
    /// Number of the output of that name; -1: there is none.
    int find(std::string_view name) const;
    OutputShape shape(int output) const;
    std::vector<OutputInfo> infos() const;
    /// Floats of an input image.
    size_t image() const { return size_t(3) * descriptor->height * descriptor->width; }
    /// That there is no such output; the message lists those that there are.
    Status unknown(std::string_view name) const;
};

/// `input`: floats.
Status check_run(const RunShape &model, bool has_weights, size_t input, int batch,
                 std::span<const OutputRequest> outputs);

/// That an output has as many floats as the batch needs.
Status check_output(const RunShape &model, int output, int batch, size_t floats);

}  // namespace shufflenet::inline SHUFFLENET_ABI
