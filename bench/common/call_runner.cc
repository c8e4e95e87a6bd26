#include "call_runner.h"

#include <set>
#include <stdexcept>

#include "cache_line.h"
#include "networks/graph_text.h"
#include "runtime/src/isa.h"
#include "runtime/src/safetensors.h"

namespace shufflenet::bench {

CallRunner::CallRunner(const Callee &callee, Size input, std::span<const float> image, int threads,
                       size_t scratch_bytes)
    : callee_(callee), input_(input), image_(image), scratch_memory_(threads) {
    const shufflenet_program &program = *callee.program;
    if (!arena_.allocate(size_t(round_up(program.arena_floats, kLineFloats)) + program.row_floats, 0)) {
        throw std::bad_alloc();
    }
    for (auto &memory : scratch_memory_) {
        if (!memory.allocate(scratch_bytes)) throw std::bad_alloc();
        scratch_.push_back({.begin = memory.data(), .size = memory.size()});
    }
    for (const shufflenet_output &output : std::span(program.outputs, program.outputs_count)) {
        written_.emplace_back(output.offsets == nullptr ? output.channels : 0);
    }
    check(pool_.start(threads));
    context_.pool = &pool_;
    context_.scratch = scratch_.data();
}

std::span<float> CallRunner::row() {
    return memory().subspan(size_t(round_up(callee_.program->arena_floats, kLineFloats)),
                            size_t(callee_.program->row_floats));
}

void CallRunner::run(int call) {
    const shufflenet_call &what = calls()[call];
    bool good = false;
    if (call < callee_.program->image_calls) {
        const ImageMemory memory{image_.data(), input_.height, input_.width, arena_.activations.data(), row().data()};
        good = call_for_image(callee_, what, memory, context_);
    } else {
        std::vector<float> &out = written_[what.out];
        good = call_for_group(callee_, what, row().data(), 1, static_cast<int>(out.size()), out.data(), context_);
    }
    if (!good) throw std::runtime_error(std::string(what.id) + ": " + error_.message.data());
}

void CallRunner::run_all() {
    for (int call = 0; call < callee_.program->calls_count; ++call) run(call);
}

std::vector<std::vector<float>> CallRunner::outputs() {
    std::vector<std::vector<float>> all = written_;
    for (int i = 0; i < callee_.program->outputs_count; ++i) {
        const shufflenet_output &output = callee_.program->outputs[i];
        if (output.offsets == nullptr) continue;
        all[i].resize(size_t(output.channels) * output.height * output.width);
        copy_output(output, arena_.activations.data(), Layout::kNCHW, all[i].data());
    }
    return all;
}

ModelCalls::ModelCalls(const Workload &workload, int threads, const networks::PlanOptions &options)
    : program_(networks::make_program(workload.graph(), options)) {
    const shufflenet_descriptor &descriptor = workload.descriptor();
    const shufflenet_program &compiled = *descriptor.program;
    for (int i = 0; i < compiled.calls_count; ++i) {
        if (size_t(compiled.calls_count) != program_.calls.size() || program_.calls[i].id != compiled.calls[i].id) {
            throw std::runtime_error(std::string(descriptor.name) + ": compiled from another plan of its graph");
        }
    }
    check(choose_kernels(descriptor, &kernels_));
    Safetensors tensors;
    check(Safetensors::parse(workload.safetensors(), "random weights", &tensors));
    check(pack_weights(tensors, "random weights", descriptor.network, compiled, &weights_));
    runner_ = std::make_unique<CallRunner>(Callee{&compiled, kernels_, &weights_}, workload.graph().input,
                                           workload.input(1), threads, kernels_->scratch_bytes);
    runner_->run_all();
    error_ = workload.check_outputs(runner_->outputs(), kernels_->isa);
}

double ModelCalls::flops(int call) const {
    return 2.0 * static_cast<double>(flops_of(program_.graph, program_.calls[call].layers));
}

double ModelCalls::bytes(int call) const {
    return sizeof(float) * static_cast<double>(elements_of(program_.graph, program_.calls[call].layers));
}

void ModelCalls::evict_weights(int call) const {
    const networks::Call &what = program_.calls[call];
    const float *weights = weights_.floats.data() + what.weights;
    for (int i = 0; i < networks::weight_floats(program_.kernels[what.kernel]); i += kLineFloats) {
        evict_line(weights + i);
    }
}

int64_t flops_of(const networks::Graph &graph, const std::vector<int> &layers) {
    int64_t flops = 0;
    for (const int layer : layers) flops += graph.layers[layer].flops();
    return flops;
}

int64_t elements_of(const networks::Graph &graph, const std::vector<int> &layers) {
    if (layers.empty()) return 0;
    const std::set<int> own(layers.begin(), layers.end());
    std::set<networks::Channel> read;
    int64_t elements = 0;
    for (const int number : layers) {
        const networks::Layer &layer = graph.layers[number];
        elements += layer.weight_elements();
        for (const networks::Tensor &tensor : layer.in) {
            for (const networks::Channel &channel : tensor.channels) {
                if (!own.contains(channel.layer) && read.insert(channel).second) elements += tensor.size.pixels();
            }
        }
    }
    const networks::Layer &last = graph.layers[layers.back()];
    return elements + int64_t{last.out_channels} * last.out.pixels();
}

}  // namespace shufflenet::bench
