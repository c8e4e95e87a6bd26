#include "workload.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>

#include "networks/graph_text.h"
#include "reference/random_weights.h"
#include "reference/reference.h"
#include "runtime/cli/peak.h"

namespace shufflenet::bench {

namespace {

constexpr uint64_t kSeed = 7;
// As the end-to-end tests: single precision through up to 52 layers of sums.
constexpr double kTolerance = 1e-5;

}  // namespace

void check(const Status &status) {
    if (!status.ok()) throw std::runtime_error(status.message());
}

Outputs::Outputs(std::span<const OutputInfo> outputs, int batch) {
    for (const OutputInfo &output : outputs) {
        names_.push_back(output.name);
        values_.emplace_back(size_t(batch) * output.shape.elements());
    }
    for (size_t i = 0; i < names_.size(); ++i) requests_.push_back({names_[i], Layout::kNCHW, values_[i]});
}

RandomNetwork::RandomNetwork(networks::Graph graph, int images)
    : graph_(std::move(graph)),
      safetensors_(reference::random_safetensors(graph_, kSeed)),
      input_(reference::random_input(graph_.input, images, kSeed)) {}

std::span<const float> RandomNetwork::input(int images) const {
    return std::span(input_).first(size_t(images) * graph_.image_channels * graph_.input.pixels());
}

double RandomNetwork::flops() const { return 2.0 * static_cast<double>(total_cost(graph_).flops); }

Workload::Workload(const shufflenet_descriptor &descriptor, int images)
    : RandomNetwork(networks::graph_from_text(descriptor.program->graph), images), descriptor_(descriptor) {}

Model Workload::open(int threads) const {
    Model model;
    check(model.open(descriptor_, threads));
    check(model.load_weights(safetensors(), "random weights"));
    return model;
}

DeviceModel Workload::open_device(const std::string &device, int images) const {
    DeviceModel model;
    DeviceOptions options;
    options.device = device;
    options.max_batch = images;
    options.graph = device == "cuda";
    check(model.open(descriptor_, options));
    check(model.load_weights(safetensors(), "random weights"));
    return model;
}

double RandomNetwork::check_outputs(const std::vector<std::vector<float>> &outputs, const std::string &on) const {
    const std::vector<reference::Tensor> expected = reference::run(graph_, reference::fold(graph_, kSeed), input(1));
    double worst = 0;
    for (size_t o = 0; o < expected.size(); ++o) {
        const auto [low, high] = std::ranges::minmax(expected[o].data);
        for (size_t i = 0; i < expected[o].data.size(); ++i) {
            const double error = std::abs(outputs[o][i] - expected[o].data[i]) / (high - low);
            if (!(error <= kTolerance)) {
                throw std::runtime_error(graph_.name + " on " + on + ": " + graph_.outputs[o].name + " " +
                                         std::to_string(i) + " is wrong by " + std::to_string(error) + " of the range");
            }
            worst = std::max(worst, error);
        }
    }
    return worst;
}

void Workload::verify(Model &model) const {
    const Outputs outputs(model.outputs(), 1);
    check(model.run(input(1), 1, outputs.requests()));
    check_outputs(outputs.values(), model.isa());
}

void Workload::verify(DeviceModel &model) const {
    const Outputs outputs(model.outputs(), 1);
    check(model.run(input(1), 1, outputs.requests()));
    check_outputs(outputs.values(), model.device_name());
}

double peak_gflops(const std::string &isa, int threads) {
    static std::map<std::pair<std::string, int>, double> measured;
    auto [entry, fresh] = measured.try_emplace({isa, threads}, 0.0);
    if (fresh) entry->second = fma_peak_gflops(isa, threads);
    return entry->second;
}

}  // namespace shufflenet::bench
