#include "run_check.h"

#include <string>

#include "message.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

Status check_floats(std::string_view what, size_t expected, size_t found) {
    if (expected == found) return {};
    return {Code::kBadInput, message::shortened(what) + ": expected " + std::to_string(expected) + " floats, found " +
                                 std::to_string(found)};
}

}  // namespace

int RunShape::find(std::string_view name) const {
    for (int i = 0; i < program->outputs_count; ++i) {
        if (name == program->outputs[i].name) return i;
    }
    return -1;
}

OutputShape RunShape::shape(int output) const {
    const shufflenet_output &o = program->outputs[output];
    return {output == classes_output ? classes : o.channels, o.height, o.width};
}

std::vector<OutputInfo> RunShape::infos() const {
    std::vector<OutputInfo> all;
    for (int i = 0; i < program->outputs_count; ++i) all.push_back({program->outputs[i].name, shape(i)});
    return all;
}

Status RunShape::unknown(std::string_view name) const {
    std::string known;
    for (const shufflenet_output &output : outputs()) known += (known.empty() ? "" : ", ") + std::string(output.name);
    return {Code::kBadInput, "output of " + std::string(descriptor->name) + ": expected one of " +
                                 message::one_line(known) + ", found " + message::shortened(name)};
}

Status check_output(const RunShape &model, int output, int batch, size_t floats) {
    return check_floats(model.program->outputs[output].name, size_t(batch) * model.shape(output).elements(), floats);
}

Status check_run(const RunShape &model, bool has_weights, size_t input, int batch,
                 std::span<const OutputRequest> outputs) {
    if (!has_weights) {
        return {Code::kBadInput, std::string(model.descriptor->name) + ": run() before weights were loaded"};
    }
    if (batch < 1) return {Code::kBadInput, "batch: expected at least 1, found " + std::to_string(batch)};
    if (Status status = check_floats("input", size_t(batch) * model.image(), input); !status.ok()) return status;
    for (const OutputRequest &request : outputs) {
        const int output = model.find(request.name);
        if (output < 0) return model.unknown(request.name);
        if (request.out.empty()) continue;
        if (Status status = check_output(model, output, batch, request.out.size()); !status.ok()) return status;
    }
    return {};
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
