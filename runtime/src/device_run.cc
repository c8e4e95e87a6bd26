#include "device_run.h"

#include <new>

#include "networks/panels.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

/// Kernels count in 32 bits.
Status check_floats(int images, int64_t floats) {
    if (floats <= INT32_MAX) return {};
    return {Code::kBadInput, "max_batch: activations of " + std::to_string(images) + " images are " +
                                 std::to_string(floats) + " floats, expected at most 2147483647"};
}

int64_t floats_of(const shufflenet_shape &shape) { return int64_t{kPlane} * shape.pixels * shape.planes; }

}  // namespace

Status DeviceArena::allocate(DeviceApi &api, void *stream, const shufflenet_program &program, int count) {
    images = count;
    int64_t staged = 0;
    for (int i = 0; i < program.kernels_count && !api.has_addresses(); ++i) {
        staged = std::max(staged, floats_of(program.shapes[i]));
    }
    const std::pair<DeviceMemory *, int64_t> all[] = {
        {&arena, program.arena_floats}, {&rows, program.row_floats}, {&staging, staged}};
    for (const auto &[memory, floats] : all) {
        if (Status status = check_floats(images, images * floats); !status.ok()) return status;
        if (Status status = memory->allocate(api, stream, images * floats); !status.ok()) return status;
    }
    return {};
}

bool DeviceRun::chain(const DeviceWeights &weights, DevicePointer in, int64_t floats, int images, DevicePointer out) {
    in_ = in;
    in_floats_ = floats;
    images_ = images;
    out_ = out;
    classes_ = weights.packed().classes;
    for (int i = 0; i < program_.calls_count; ++i) {
        const shufflenet_call &call = program_.calls[i];
        const DeviceConstants &constants = weights.of_call(i);
        const bool rows = program_.shapes[call.kernel].in == SHUFFLENET_ROWS;
        if (!(rows ? call_for_rows(call, constants) : call_for_planes(call, constants))) {
            failed_ = call.id;
            return false;
        }
    }
    return true;
}

/// Where a kernel writes planes. Parts of an allocation that has no addresses are objects of their own, which must not
/// overlap with the whole that the kernel reads.
DeviceRun::Place DeviceRun::place_of(const shufflenet_call &call) const {
    const DeviceMemory &memory = call.to == SHUFFLENET_TO_ROW ? arena_.rows : arena_.arena;
    if (api_.has_addresses()) return {memory.get() + sizeof(float) * int64_t{call.out} * arena_.images, false};
    if (call.to == SHUFFLENET_TO_ROW && call.out == 0) return {memory.get(), false};
    return {arena_.staging.get(), true};
}

/// From the staging memory to its place.
bool DeviceRun::move(const shufflenet_call &call, int64_t floats) {
    const DeviceMemory &memory = call.to == SHUFFLENET_TO_ROW ? arena_.rows : arena_.arena;
    status_ = api_.copy(stream_, memory.get(), sizeof(float) * size_t(call.out) * arena_.images, arena_.staging.get(),
                        sizeof(float) * size_t(floats) * arena_.images);
    return status_.ok();
}

bool DeviceRun::call_for_planes(const shufflenet_call &call, const DeviceConstants &constants) {
    const shufflenet_shape &shape = program_.shapes[call.kernel];
    const bool image = shape.in == SHUFFLENET_IMAGE;
    DeviceArgument in(image ? in_ : arena_.arena.get(),
                      {{image ? in_floats_ : int64_t{program_.arena_floats} * arena_.images, 1}});
    const Place to = place_of(call);
    const int64_t plane = int64_t{kPlane} * shape.pixels;
    DeviceArgument out(to.memory,
                       {{kPlane, 1}, {shape.pixels, kPlane}, {shape.planes, plane * arena_.images}, {images_, plane}});
    DeviceArgument tail(to.memory, {{0, 1}, {0, 1}, {0, 1}, {0, 1}});
    if (!run(call, constants, in, out, tail)) return false;
    return !to.staged || preparing_ || move(call, floats_of(shape));
}

bool DeviceRun::call_for_rows(const shufflenet_call &call, const DeviceConstants &constants) {
    DeviceArgument in(
        arena_.rows.get(),
        {{kPlane, 1}, {images_, kPlane}, {program_.row_floats / kPlane, int64_t{kPlane} * arena_.images}});
    DeviceArgument out(out_, {{classes_, 1}, {images_, classes_}});
    DeviceArgument tail(out_, {{0, 1}, {0, 1}});
    return run(call, constants, in, out, tail);
}

bool DeviceRun::run(const shufflenet_call &call, const DeviceConstants &constants, DeviceArgument &in,
                    DeviceArgument &out, DeviceArgument &tail) {
    DeviceArgument table(constants.table.get(), constants.host_table.data(), int64_t(constants.host_table.size()));
    DeviceArgument weights(constants.weights.get(), constants.host_weights.data(),
                           int64_t(constants.host_weights.size()));
    // The weights of devices are floats.
    const int result = kernels_[call.kernel].run(&context_, in.get(), table.get(), weights.get(), weights.get(),
                                                 out.get(), tail.get());
    return result == 0 && !error_.failed.load(std::memory_order_relaxed);
}

Status DeviceRun::error(const char *model, const std::string &device) const noexcept {
    if (!status_.ok()) return status_;
    try {
        return {Code::kInternal, std::string(model) + ": " + device + ": " + failed_ + ": " + error_.message.data()};
    } catch (const std::bad_alloc &) {
        return {Code::kInternal, {}};
    }
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
