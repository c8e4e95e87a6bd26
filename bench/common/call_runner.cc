#include "call_runner.h"

#include <algorithm>
#include <set>
#include <stdexcept>

#include "cache_line.h"
#include "runtime/src/isa.h"
#include "runtime/src/safetensors.h"

namespace shufflenet::bench {

CallRunner::CallRunner(const Callee &callee, std::span<const float> image, int threads, size_t scratch_bytes)
    : callee_(callee), image_(image), scratch_memory_(threads) {
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
        const ImageMemory memory{image_.data(), static_cast<int>(image_.size()), arena_.activations.data(),
                                 row().data()};
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

ProgramCalls::ProgramCalls(const networks::Program &program, const shufflenet_program &compiled,
                           const shufflenet_kernels &kernels, const RandomNetwork &network, int threads)
    : program_(program), kernels_(kernels) {
    Safetensors tensors;
    check(Safetensors::parse(network.safetensors(), "random weights", &tensors));
    check(pack_weights(tensors, "random weights", program.graph.name, compiled, &weights_));
    runner_ = std::make_unique<CallRunner>(Callee{&compiled, &kernels, &weights_}, network.input(1), threads,
                                           kernels.scratch_bytes);
    runner_->run_all();
    error_ = network.check_outputs(runner_->outputs(), kernels.isa);
}

ModelCalls::ModelCalls(const Workload &workload, int threads) : program_(make_program(workload.graph())) {
    const shufflenet_descriptor &descriptor = workload.descriptor();
    const std::span calls(descriptor.program->calls, size_t(descriptor.program->calls_count));
    const auto same = [](const networks::Call &call, const shufflenet_call &other) { return call.id == other.id; };
    if (!std::ranges::equal(program_.calls, calls, same)) {
        throw std::runtime_error(std::string(descriptor.name) + ": its program is not what this program makes of it");
    }
    const shufflenet_kernels *kernels = nullptr;
    check(choose_kernels(descriptor, &kernels));
    calls_ = std::make_unique<ProgramCalls>(program_, *descriptor.program, *kernels, workload, threads);
}

double ProgramCalls::flops(int call) const {
    return 2.0 * static_cast<double>(flops_of(program_.graph, program_.calls[call].layers));
}

double ProgramCalls::bytes(int call) const {
    return sizeof(float) * static_cast<double>(elements_of(program_.graph, program_.calls[call].layers));
}

void ProgramCalls::evict_weights(int call) const {
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
    return elements + static_cast<int64_t>(last.out_channels) * last.out.pixels();
}

}  // namespace shufflenet::bench
