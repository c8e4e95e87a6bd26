#include "workload.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <stdexcept>

#include "reference/random_weights.h"
#include "reference/reference.h"
#include "runtime/cli/peak.h"

namespace shufflenet::bench {

namespace {

constexpr uint64_t kSeed = 7;
// As the end-to-end tests: single precision through up to 52 layers of sums.
constexpr double kTolerance = 1e-5;

void check(const Status &status) {
    if (!status.ok()) throw std::runtime_error(status.message());
}

}  // namespace

Workload::Workload(const shufflenet_descriptor &descriptor, int images)
    : descriptor_(descriptor),
      network_(*find_any_network(descriptor.network)),
      size_{descriptor.height, descriptor.width},
      safetensors_(reference::random_safetensors(network_, descriptor.classes, kSeed)),
      input_(reference::random_input(size_, images, kSeed)) {}

double Workload::flops() const {
    return 2.0 * static_cast<double>(total_cost(network_, size_, descriptor_.classes).flops);
}

Model Workload::open(int threads) const {
    Model model;
    check(model.open(descriptor_, threads));
    check(model.load_weights(safetensors_, "random weights"));
    return model;
}

DeviceModel Workload::open_device(const std::string &device, int images) const {
    DeviceModel model;
    DeviceOptions options;
    options.device = device;
    options.max_batch = images;
    options.graph = device == "cuda";
    check(model.open(descriptor_, options));
    check(model.load_weights(safetensors_, "random weights"));
    return model;
}

template <typename T>
void Workload::verify_logits(T &model, const std::string &on) const {
    const std::span image = std::span(input_).first(size_t{3} * size_.pixels());
    std::vector<float> logits(descriptor_.classes);
    check(model.run(image, 1, logits));
    const auto layers = reference::fold(network_, descriptor_.classes, kSeed);
    const std::vector<double> expected =
        network_.is_comparison()
            ? reference::run(*network_.comparison(), size_, descriptor_.classes, layers, image)
            : reference::run(*network_.shufflenet_v2(), size_, descriptor_.classes, layers, image).logits;
    const auto [low, high] = std::ranges::minmax(expected);
    for (size_t i = 0; i < logits.size(); ++i) {
        const double error = std::abs(logits[i] - expected[i]) / (high - low);
        if (!(error <= kTolerance)) {
            throw std::runtime_error(std::string(descriptor_.name) + " on " + on + ": logit " + std::to_string(i) +
                                     " is wrong by " + std::to_string(error) + " of the range");
        }
    }
}

void Workload::verify(Model &model) const { verify_logits(model, model.isa()); }
void Workload::verify(DeviceModel &model) const { verify_logits(model, model.device_name()); }

double peak_gflops(const std::string &isa, int threads) {
    static std::map<std::pair<std::string, int>, double> measured;
    auto [entry, fresh] = measured.try_emplace({isa, threads}, 0.0);
    if (fresh) entry->second = fma_peak_gflops(isa, threads);
    return entry->second;
}

}  // namespace shufflenet::bench
