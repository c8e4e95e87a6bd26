#include "device_weights.h"

#include "message.h"
#include "networks/panels.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

/// Those of a call; of a last linear layer all that are left, whatever their number.
std::span<const float> weights_of(const shufflenet_program &program, const shufflenet_call &call,
                                  std::span<const float> all) {
    const shufflenet_shape &shape = program.shapes[call.kernel];
    const bool as_built = shape.in != SHUFFLENET_ROWS || int64_t(all.size()) == program.weight_floats;
    return all.subspan(size_t(call.weights), as_built ? size_t(shape.weights) : std::dynamic_extent);
}

/// Where float `offset` of an image's arena is.
int32_t in_planes_of(int images, int32_t offset) {
    return offset / kPanelFloats * kPanelFloats * images + offset % kPanelFloats;
}

}  // namespace

DeviceWeights::~DeviceWeights() {
    const EnteredToRelease entered(modules_->api());
    calls_.clear();
}

Status DeviceWeights::upload(const shufflenet_device &device, int images, std::shared_ptr<const PackedWeights> packed,
                             void *stream) {
    packed_ = std::move(packed);
    calls_.resize(device.program->calls_count);
    for (int i = 0; i < device.program->calls_count; ++i) {
        if (Status status = upload_call(device, images, i, stream); !status.ok()) return status;
    }
    return {};
}

Status DeviceWeights::upload_call(const shufflenet_device &device, int images, int number, void *stream) {
    DeviceApi &api = modules_->api();
    const shufflenet_program &program = *device.program;
    const shufflenet_call &call = program.calls[number];
    DeviceConstants &to = calls_[number];
    to.host_weights = weights_of(program, call, packed_->floats);
    const size_t floats = to.host_weights.size();
    if (Status status = to.weights.allocate(api, stream, int64_t(floats)); !status.ok()) return status;
    Status status = api.upload(stream, to.weights.get(), to.host_weights.data(), sizeof(float) * floats);
    if (!status.ok()) return status;

    const std::span table(program.tables + call.table, size_t(program.shapes[call.kernel].table));
    if (!to.host_table.allocate(table.size())) return message::out_of_memory("weights");
    for (size_t i = 0; i < table.size(); ++i) {
        const bool offset = int(i) < device.offsets[call.kernel];
        to.host_table.data()[i] = offset ? in_planes_of(images, table[i]) : table[i];
    }
    if (status = to.table.allocate(api, stream, int64_t(table.size())); !status.ok()) return status;
    if (table.empty()) return {};
    return api.upload(stream, to.table.get(), to.host_table.data(), sizeof(int32_t) * table.size());
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
