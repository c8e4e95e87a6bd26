// A device's kernel within a model: all of the oracle's kernels but one when results are compared, only that one when
// it is timed.
#include <HalideRuntime.h>
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <set>
#include <stdexcept>
#include <string>

#include "bed.h"
#include "networks/network.h"
#include "reference/random_weights.h"
#include "shufflenet/descriptor.h"
#include "shufflenet/device.h"

namespace shufflenet::bench {

namespace {

constexpr uint64_t kSeed = 7;
constexpr int kClasses = 1000;
// Images whose outputs are compared: more than one, so that the strides between them count.
constexpr int kChecked = 2;
// Runs in flight, so that what a launch costs the host is hidden as it is in a stream of work.
constexpr int kInFlight = 8;

int no_kernel(const void *, halide_buffer_t *, halide_buffer_t *, halide_buffer_t *, halide_buffer_t *) { return 0; }
int no_fc(const void *, halide_buffer_t *, int, halide_buffer_t *, halide_buffer_t *) { return 0; }

/// Calls visit(name, member) for every kernel of the table.
template <typename Visit>
void for_each_kernel(shufflenet_device_kernels &k, const Visit &visit) {
    visit("stem", k.stem);
    for (int s = 0; s < kStages; ++s) {
        const std::string stage = "stage" + std::to_string(s + 2);
        visit(stage + "_down_branch1", k.down_branch1[s]);
        visit(stage + "_down_branch2", k.down_branch2[s]);
        visit(stage + "_down_expand", k.down_expand[s]);
        visit(stage + "_down_project", k.down_project[s]);
        visit(stage + "_basic_branch2", k.basic[s]);
        visit(stage + "_basic_expand", k.basic_expand[s]);
        visit(stage + "_basic_project", k.basic_project[s]);
    }
    visit("conv5", k.conv5);
    visit("conv5_pool", k.conv5_pool);
    visit("fc", k.fc);
}

template <typename Member>
void set(Member &member, void *function) {
    member = reinterpret_cast<Member>(function);
}

void check(const Status &status) {
    if (!status.ok()) throw std::runtime_error(status.message());
}

class DeviceBed final : public Bed {
  public:
    DeviceBed(const nlohmann::json &request, void *oracle)
        : kernel_(request.at("kernel")),
          calls_(request.at("calls")),
          device_(request.at("target")),
          network_(*find_network(request.at("network").get<std::string>())) {
        all_.device = only_.device = device_.c_str();
        all_.from_batch = only_.from_batch = 1;
        for_each_kernel(all_, [&](const std::string &name, auto &member) {
            void *function = dlsym(oracle, name.c_str());
            if (function == nullptr) throw std::runtime_error("the oracle has no kernel " + name);
            set(member, function);
        });
        for_each_kernel(only_, [](const std::string &name, auto &member) {
            set(member, name == "fc" ? reinterpret_cast<void *>(no_fc) : reinterpret_cast<void *>(no_kernel));
        });
        descriptor_.abi = SHUFFLENET_VERSION_NUMBER;
        descriptor_.name = descriptor_.network = network_.name.data();
        descriptor_.height = request.at("height");
        descriptor_.width = request.at("width");
        descriptor_.classes = kClasses;
        descriptor_.device_kernels_count = 1;
        safetensors_ = reference::random_safetensors(network_, kClasses, kSeed);
        input_ = reference::random_input({descriptor_.height, descriptor_.width}, kChecked, kSeed);
        timed_descriptor_ = descriptor_;
        descriptor_.device_kernels = &all_;
        timed_descriptor_.device_kernels = &only_;
        open(descriptor_, kChecked, checked_);
        const std::vector<int> counts = request.at("counts");
        open(timed_descriptor_, *std::ranges::max_element(counts), timed_);
    }

    void use(void *function) override {
        for (shufflenet_device_kernels *table : {&all_, &only_}) {
            for_each_kernel(*table, [&](const std::string &name, auto &member) {
                if (name == kernel_) set(member, function);
            });
        }
        // A kernel is made ready for the device when weights are loaded.
        if (!ready_.insert(function).second) return;
        check(checked_.load_weights(safetensors_, "random weights"));
        check(timed_.load_weights(safetensors_, "random weights"));
    }

    std::vector<float> outputs() override {
        std::vector<float> logits(size_t{kChecked} * kClasses);
        std::vector<std::vector<float>> features;
        std::vector<FeatureRequest> requests;
        for (int f = 0; f < kFeatures; ++f) {
            const auto feature = static_cast<Feature>(f);
            features.emplace_back(kChecked * checked_.feature_shape(feature).elements());
            requests.push_back({feature, Layout::kNCHW, features.back()});
        }
        check(checked_.run(input_, kChecked, logits, requests));
        for (const std::vector<float> &feature : features) logits.insert(logits.end(), feature.begin(), feature.end());
        return logits;
    }

    void set_count(int count) override { count_ = count; }

    double time() override {
        const auto start = std::chrono::steady_clock::now();
        for (int i = 0; i < kInFlight; ++i) check(timed_.enqueue(timed_.own_input(), count_, timed_.own_logits()));
        check(timed_.synchronize());
        const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
        return took.count() / (kInFlight * calls_);
    }

    std::string device() const override { return timed_.device_name(); }

  private:
    void open(const shufflenet_descriptor &descriptor, int images, DeviceModel &model) const {
        DeviceOptions options;
        options.device = device_;
        options.max_batch = images;
        options.fusion = kernel_.ends_with("_branch2") ? DeviceOptions::Fusion::kAlways : DeviceOptions::Fusion::kNever;
        check(model.open(descriptor, options));
    }

    std::string kernel_;
    int calls_, count_ = 1;
    std::string device_;
    const Network &network_;
    shufflenet_device_kernels all_{}, only_{};
    shufflenet_descriptor descriptor_{}, timed_descriptor_{};
    std::set<void *> ready_;
    std::vector<std::byte> safetensors_;
    std::vector<float> input_;
    DeviceModel checked_, timed_;
};

}  // namespace

std::unique_ptr<Bed> make_device_bed(const nlohmann::json &request, void *oracle) {
    return std::make_unique<DeviceBed>(request, oracle);
}

}  // namespace shufflenet::bench
