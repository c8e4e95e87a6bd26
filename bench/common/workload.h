// What the benches run: models with random weights, checked against the naive reference before anything is timed.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "models/compiled_models.h"
#include "networks/any_network.h"
#include "shufflenet/descriptor.h"
#include "shufflenet/device.h"
#include "shufflenet/model.h"

namespace shufflenet::bench {

/// A model's random weights and images.
class Workload {
  public:
    Workload(const shufflenet_descriptor &descriptor, int images);

    const AnyNetwork &network() const { return network_; }
    Size size() const { return size_; }
    std::span<const std::byte> safetensors() const { return safetensors_; }
    std::span<const float> input() const { return input_; }

    /// Multiply-adds of one image, times two.
    double flops() const;

    /// The model with these weights. Throws std::runtime_error where the library reports an error.
    Model open(int threads) const;

    /// Runs the first image and throws std::runtime_error if the logits are not the naive reference's.
    void verify(Model &model) const;

    /// The same on a device, for batches of up to `images`; with graphs where the device has them.
    DeviceModel open_device(const std::string &device, int images) const;
    void verify(DeviceModel &model) const;

  private:
    template <typename T>
    void verify_logits(T &model, const std::string &on) const;

    const shufflenet_descriptor &descriptor_;
    AnyNetwork network_;
    Size size_;
    std::vector<std::byte> safetensors_;
    std::vector<float> input_;
};

/// GFLOP/s of multiply-adds that `threads` threads reach here, measured once in this process for each pair.
double peak_gflops(const std::string &isa, int threads);

}  // namespace shufflenet::bench
