#include "shufflenet/model.h"

#include <algorithm>
#include <new>

#include "abi.h"
#include "batch_run.h"
#include "isa.h"
#include "log.h"
#include "message.h"
#include "networks/size.h"
#include "safetensors.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

using message::guarded;
using message::out_of_memory;

/// A group's inputs of its last calls.
size_t rows_floats(const shufflenet_program &program) { return size_t(kImageGroup) * program.row_floats; }

/// Kernels read whole vectors of their constants.
Status check_alignment(const shufflenet_descriptor &d) {
    for (const void *constants : {static_cast<const void *>(d.program->tables), static_cast<const void *>(d.packed)}) {
        if (reinterpret_cast<uintptr_t>(constants) % (sizeof(float) * kLineFloats) != 0) {
            return {Code::kInternal, std::string(d.name) + ": tables or packed weights that are not aligned to a line"};
        }
    }
    return {};
}

Status make_arenas(ModelState &state) {
    const shufflenet_program &program = state.program();
    const size_t activations = round_up(program.arena_floats, kLineFloats);
    const int active = state.pool.active();
    state.arenas.resize(active);
    state.scratch.resize(active);
    for (int t = 0; t < active; ++t) {
        Arena &arena = state.arenas[t];
        const size_t floats = activations + (t == 0 ? rows_floats(program) : 0);
        if (!arena.allocate(floats, HugePages::room(state.kernels->scratch_bytes))) return out_of_memory("activations");
        state.scratch[t] = {.begin = arena.scratch.data(), .size = arena.scratch.size()};
    }
    return {};
}

Status make_state(const shufflenet_descriptor &d, int threads, ModelState *state) {
    if (Status status = check_abi(d); !status.ok()) return status;
    if (Status status = check_alignment(d); !status.ok()) return status;
    if (Status status = choose_kernels(d, &state->kernels); !status.ok()) return status;
    if (Status status = state->pool.start(threads); !status.ok()) return status;
    state->descriptor = &d;
    state->classes_output = classes_output(*d.program);
    state->targets.resize(d.program->outputs_count);
    if (Status status = make_arenas(*state); !status.ok()) return status;
    log_debug("%s: %s chosen of %s, %d threads, %d of them active, an arena of %zu bytes each", d.name,
              state->kernels->isa, logging() ? isa_names(d).c_str() : "", state->pool.threads(), state->pool.active(),
              state->arenas.back().activations.size() * sizeof(float) + state->scratch.back().size);
    return {};
}

void adopt(ModelState &state, std::shared_ptr<const PackedWeights> weights) {
    state.weights = std::move(weights);
    state.last_arena = nullptr;
}

Status pack(ModelState &state, const Safetensors &tensors, const std::string &name) {
    LogTimer timer;
    const shufflenet_descriptor &d = *state.descriptor;
    auto packed = std::make_shared<PackedWeights>();
    Status status = pack_weights(tensors, name, d.network, *d.program, packed.get());
    if (!status.ok()) return status;
    log_debug("%s: %zu tensors, %d classes, checked and packed for %s in %.2f ms", name.c_str(),
              tensors.tensors().size(), packed->classes, d.name, timer.lap());
    adopt(state, std::move(packed));
    return {};
}

}  // namespace

Model::Model() noexcept = default;
Model::Model(Model &&) noexcept = default;
Model &Model::operator=(Model &&) noexcept = default;
Model::~Model() = default;

Status Model::open(const shufflenet_descriptor &descriptor, int threads) {
    return guarded("the model", [&] {
        auto state = std::make_unique<ModelState>();
        Status status = make_state(descriptor, threads, state.get());
        if (status.ok()) state_ = std::move(state);
        return status;
    });
}

Status Model::load_weights(std::span<const std::byte> safetensors, const std::string &name) {
    return guarded("weights", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, name + ": weights for a model that is not open"};
        Safetensors tensors;
        if (Status status = Safetensors::parse(safetensors, name, &tensors); !status.ok()) return status;
        return pack(*state_, tensors, name);
    });
}

Status Model::load_weights(const std::string &path) {
    return guarded("weights", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, path + ": weights for a model that is not open"};
        Safetensors tensors;
        if (Status status = Safetensors::open(path, &tensors); !status.ok()) return status;
        return pack(*state_, tensors, path);
    });
}

Status Model::load_embedded_weights() {
    return guarded("weights", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, "embedded weights for a model that is not open"};
        const shufflenet_descriptor &d = *state_->descriptor;
        if (d.packed != nullptr) {
            // Where they are. A copy of x1.0's 9 MB in huge pages makes the first result 2 to 12 ms later, on a CPU
            // that then reads them all in 0.32 ms either way; and what is not copied, processes have in common.
            auto packed = std::make_shared<PackedWeights>();
            packed->classes = d.classes;
            packed->floats = {d.packed, size_t(d.program->weight_floats)};
            adopt(*state_, std::move(packed));
            return {};
        }
        if (d.weights == nullptr) return {Code::kBadInput, std::string(d.name) + ": has no embedded weights"};
        return load_weights(std::as_bytes(std::span(d.weights, d.weights_end)), std::string(d.name) + " (embedded)");
    });
}

Status Model::share(Model *other, int threads) const {
    return guarded("the model", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, "share() of a model that is not open"};
        Model made;
        if (Status status = made.open(*state_->descriptor, threads); !status.ok()) return status;
        made.state_->weights = state_->weights;
        *other = std::move(made);
        return {};
    });
}

Status Model::run(std::span<const float> input, int batch, std::span<const OutputRequest> outputs) noexcept {
    return guarded("an error message", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, "run() of a model that is not open"};
        Status status = check_run(state_->shape(), has_weights(), input.size(), batch, outputs);
        return status.ok() ? run_batch(*state_, input, batch, outputs) : status;
    });
}

Status Model::run(std::span<const float> input, int batch, std::span<float> out) noexcept {
    return guarded("an error message", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, "run() of a model that is not open"};
        const OutputRequest first{state_->program().outputs[0].name, Layout::kNCHW, out};
        Status status = check_run(state_->shape(), has_weights(), input.size(), batch, {&first, 1});
        // No memory is not wanting the output here.
        if (status.ok()) status = check_output(state_->shape(), 0, batch, out.size());
        return status.ok() ? run_batch(*state_, input, batch, {&first, 1}) : status;
    });
}

OutputShape Model::output_shape(std::string_view name) const {
    if (state_ == nullptr) return {};
    const int output = state_->shape().find(name);
    return output < 0 ? OutputShape{} : state_->shape().shape(output);
}

std::vector<OutputInfo> Model::outputs() const {
    return state_ == nullptr ? std::vector<OutputInfo>() : state_->shape().infos();
}

Status Model::view(std::string_view name, OutputView *view) const {
    return guarded("an error message", [&]() -> Status {
        if (state_ == nullptr || state_->last_arena == nullptr) return {Code::kBadInput, "view() before a run()"};
        const RunShape shape = state_->shape();
        const int number = shape.find(name);
        if (number < 0) return shape.unknown(name);
        const shufflenet_output &output = state_->program().outputs[number];
        if (output.offsets == nullptr) {
            return {Code::kBadInput, "view(): " + std::string(output.name) +
                                         " lies in the memory that run() was given, and nowhere else"};
        }
        *view = {shape.shape(number), state_->last_arena, kPanelFloats, {output.offsets, size_t(output.channels)}};
        return {};
    });
}

ModelInfo describe(const shufflenet_descriptor &d) {
    if (!check_abi(d).ok()) return {};
    int scratch = 0;
    for (const shufflenet_kernels &kernels : std::span(d.kernels, d.kernels_count)) {
        scratch = std::max(scratch, kernels.scratch_bytes);
    }
    ModelInfo info;
    info.name = d.name;
    info.network = d.network;
    info.height = d.height;
    info.width = d.width;
    info.classes = d.classes;
    info.outputs = RunShape{&d, d.program, -1, 0}.infos();
    info.targets = isa_names(d);
    info.embedded_weights = d.packed != nullptr || d.weights != nullptr;
    info.metadata = d.metadata == nullptr ? "" : d.metadata;
    info.arena_bytes = sizeof(float) * (d.program->arena_floats + rows_floats(*d.program)) + scratch;
    return info;
}

ModelInfo Model::info() const {
    if (state_ == nullptr) return {};
    ModelInfo info = describe(*state_->descriptor);
    info.classes = classes();
    info.outputs = outputs();
    return info;
}

int Model::classes() const { return state_ == nullptr ? 0 : state_->classes(); }
int Model::threads() const { return state_ == nullptr ? 0 : state_->pool.threads(); }
bool Model::has_weights() const { return state_ != nullptr && state_->weights != nullptr; }
const char *Model::isa() const { return state_ == nullptr ? "" : state_->kernels->isa; }

}  // namespace shufflenet::inline SHUFFLENET_ABI
