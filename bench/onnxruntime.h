// ONNX Runtime as a peer, loaded at run time: absent, it is named and left out.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace shufflenet::bench {

/// One ONNX Runtime session, all graph optimisations on, its CPU provider.
class OnnxRuntime {
  public:
    /// `library`: path of libonnxruntime.so; `model`: an .onnx file with one input and one output.
    /// Throws std::runtime_error that names the file on any failure.
    OnnxRuntime(const std::string &library, const std::string &model, int threads);
    ~OnnxRuntime();
    OnnxRuntime(const OnnxRuntime &) = delete;
    OnnxRuntime &operator=(const OnnxRuntime &) = delete;

    /// `input`: batch x 3 x height x width; `output`: batch x classes.
    void run(std::span<float> input, std::span<const int64_t> shape, std::span<float> output,
             std::span<const int64_t> output_shape);

    const std::string &version() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace shufflenet::bench
