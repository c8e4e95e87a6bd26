// What the benches run: models with random weights, checked against the naive reference before anything is timed.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "networks/graph.h"
#include "shufflenet/descriptor.h"
#include "shufflenet/device.h"
#include "shufflenet/model.h"

namespace shufflenet::bench {

/// Throws std::runtime_error with the status's message, if it is not fine.
void check(const Status &status);

/// All outputs of a batch, in order, and the requests that fill them.
class Outputs {
  public:
    Outputs(std::span<const OutputInfo> outputs, int batch);
    std::span<const OutputRequest> requests() const { return requests_; }
    const std::vector<std::vector<float>> &values() const { return values_; }

  private:
    std::vector<std::string> names_;
    std::vector<std::vector<float>> values_;
    std::vector<OutputRequest> requests_;
};

/// Random weights and images of a network.
class RandomNetwork {
  public:
    RandomNetwork(networks::Graph graph, int images);

    const networks::Graph &graph() const { return graph_; }
    std::span<const std::byte> safetensors() const { return safetensors_; }
    /// The first images of the input.
    std::span<const float> input(int images) const;

    /// Multiply-adds of one image, times two.
    double flops() const;

    /// The worst error of the first image's outputs, as computed `on` something, as a share of an output's range.
    /// Throws std::runtime_error if they are not the naive reference's.
    double check_outputs(const std::vector<std::vector<float>> &outputs, const std::string &on) const;

  private:
    networks::Graph graph_;
    std::vector<std::byte> safetensors_;
    std::vector<float> input_;
};

/// Those of a model.
class Workload : public RandomNetwork {
  public:
    Workload(const shufflenet_descriptor &descriptor, int images);

    const shufflenet_descriptor &descriptor() const { return descriptor_; }

    /// The model with these weights. Throws std::runtime_error where the library reports an error.
    Model open(int threads) const;

    /// Runs the first image and throws std::runtime_error if an output is not the naive reference's.
    void verify(Model &model) const;

    /// The same on a device, for batches of up to `images`; with graphs where the device has them.
    DeviceModel open_device(const std::string &device, int images) const;
    void verify(DeviceModel &model) const;

  private:
    const shufflenet_descriptor &descriptor_;
};

/// GFLOP/s of multiply-adds that `threads` threads reach here, measured once in this process for each pair.
double peak_gflops(const std::string &isa, int threads);

}  // namespace shufflenet::bench
