// ONNX Runtime, loaded at run time: nothing is linked, and where it is absent there is none.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace shufflenet {

/// One ONNX Runtime session, all graph optimisations on, its CPU provider.
class OnnxRuntime {
  public:
    /// A float tensor of the model. Outputs are written to `data`.
    struct Tensor {
        std::string name;
        std::vector<int64_t> shape;
        std::span<float> data;
    };

    /// The library, if the loader finds one under its usual names.
    static std::optional<std::string> find();

    /// `library`: libonnxruntime.so, as dlopen() takes it; `model`: an ONNX file. Throws std::runtime_error that names
    /// the library on any failure.
    OnnxRuntime(const std::string &library, std::span<const std::byte> model, int threads);
    ~OnnxRuntime();
    OnnxRuntime(const OnnxRuntime &) = delete;
    OnnxRuntime &operator=(const OnnxRuntime &) = delete;

    /// Throws std::runtime_error, also where a shape is not the model's.
    void run(const Tensor &input, std::span<const Tensor> outputs);

    const std::string &version() const;
    /// The model's first input and output.
    const std::string &input_name() const;
    const std::string &output_name() const;

  private:
    struct State;
    struct Values;
    std::unique_ptr<State> state_;
};

}  // namespace shufflenet
