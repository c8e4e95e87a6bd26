/// @file
/// A model: a network compiled for one input size, with weights, ready to run.
///
/// With SHUFFLENET_LOG=debug in the environment the library says on stderr what it does; otherwise it prints nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "shufflenet/status.h"

extern "C" {
/// Generated tables of one model; each model's header declares its own (`<name>_descriptor`).
struct shufflenet_descriptor;
}

namespace shufflenet::inline SHUFFLENET_ABI {

struct ModelState;

/// Order of a tensor's elements, the outermost dimension first.
enum class Layout {
    kNCHW,  ///< Image, channel, row, column, as torchvision has them.
    kNHWC,  ///< Image, row, column, channel.
};

/// Shape of one image's output.
struct OutputShape {
    int channels = 0;  ///< Of logits the classes.
    int height = 0;    ///< Rows; of logits 1.
    int width = 0;     ///< Columns; of logits 1.
    /// Floats of one image.
    size_t elements() const { return size_t(channels) * size_t(height) * size_t(width); }
};

/// A value that a model returns, e.g. "logits", "stage3", or what the ONNX file calls it.
struct OutputInfo {
    std::string name;   ///< Unique in the model.
    OutputShape shape;  ///< Of one image.
};

/// An output of the last image of the last run, in place and without a copy: element (c, y, x) is
/// data[channel_offset[c] + (y * width + x) * pixel_stride]. Valid until the next run of the same model object.
struct OutputView {
    OutputShape shape;                        ///< Of one image.
    const float *data;                        ///< In the model's arena.
    ptrdiff_t pixel_stride;                   ///< From a pixel to the next, in floats.
    std::span<const int32_t> channel_offset;  ///< Of each channel at pixel 0, in floats.
};

/// Where run() puts an output of every image of the batch.
struct OutputRequest {
    std::string_view name;  ///< Which output.
    Layout layout;          ///< Of `out`.
    std::span<float> out;   ///< batch * elements() floats; empty: not wanted.
};

/// What a model is.
struct ModelInfo {
    std::string name;                 ///< NAME of shufflenet_add_model().
    std::string network;              ///< Its NETWORK.
    int height = 0;                   ///< Of the input, in pixels.
    int width = 0;                    ///< Of the input, in pixels.
    int classes = 0;                  ///< As built, or as the weights say; 0: no last linear layer.
    std::vector<OutputInfo> outputs;  ///< In order; logits with `classes`.
    std::string targets;              ///< Instruction sets compiled in, comma separated, best last.
    bool embedded_weights = false;    ///< Whether it was built with EMBED.
    std::string metadata;             ///< The embedded JSON (labels, resize, mean, std); empty: none.
    /// Memory of the first thread, constant: the activations of one image, a group's inputs of the last linear layer,
    /// and the scratch of the instruction set that needs most. Other threads have the same without a group's inputs.
    size_t arena_bytes = 0;
};

/// Which instruction set a model would use here: the best that the CPU has, or the one that the environment
/// variable SHUFFLENET_ISA names (sse41, avx2, avx512, avx512x2; neon).
Status chosen_isa(const shufflenet_descriptor &descriptor, std::string *isa);

/// What was compiled in; needs no CPU support and no weights. Of another version's model, empty: open() says why.
ModelInfo describe(const shufflenet_descriptor &descriptor);

/// One runnable model. A Model object is used by one thread at a time; share() makes another one on the same
/// packed weights for a second thread. Destruction joins the threads.
///
/// After fork(), the child can use the objects that no thread of the parent was using. They then run on the child's
/// one thread; share() and open() make models with threads there, too.
///
/// Nothing here throws but info() and outputs(); a Status of kOutOfMemory is what std::bad_alloc would have said.
///
/// Rounding mode, flushing of denormals and traps of the calling thread have no influence, and are the same after a
/// call as before, as are its exception flags. The threads take none of the program's signals.
class Model {
  public:
    Model() noexcept;  ///< Not open.
    /// Leaves the other one not open.
    Model(Model &&) noexcept;
    /// Leaves the other one not open.
    Model &operator=(Model &&) noexcept;
    ~Model();

    /// Chooses the instruction set and makes arena and threads. `threads`: 1 to 256, the caller's own included; 0: as
    /// many as the CPUs that the process may use (affinity, quotas of cgroups), now. Those beyond that many only sleep.
    Status open(const shufflenet_descriptor &descriptor, int threads = 1);

    /// Weights from a safetensors file with torchvision's state_dict names, behind one prefix or none (F32, F16, BF16,
    /// F64); checked, BN folded, packed. The file's class count wins. On error the model keeps the weights it had.
    Status load_weights(const std::string &path);
    /// The same from memory; `name` is what error messages call it.
    Status load_weights(std::span<const std::byte> safetensors, const std::string &name);
    /// The weights that were compiled in (EMBED). Packed ones are neither read nor checked.
    Status load_embedded_weights();

    /// A second model object with the same weights, an arena and threads of its own.
    Status share(Model *other, int threads = 1) const;

    /// Outputs of a batch. `input`: batch * 3 * height * width floats, NCHW, normalised. What only unwanted outputs
    /// need of the last linear layers is not computed. Errors: no such output, another size than the batch needs.
    /// No exceptions, no heap allocation on success. Results do not depend on the thread count.
    /// A NaN in an image makes all of its logits NaN, and what it reaches of its other outputs; infinities propagate as
    /// in IEEE arithmetic, as in PyTorch. Other images of the batch, and later runs, keep their bits.
    Status run(std::span<const float> input, int batch, std::span<const OutputRequest> outputs) noexcept;
    /// The first output, mostly logits: batch * elements() floats, NCHW.
    Status run(std::span<const float> input, int batch, std::span<float> out) noexcept;

    /// Of a model that is not open, this and what follows is empty, 0 or "". Of an unknown name, an empty shape.
    OutputShape output_shape(std::string_view name) const;
    /// All of them, in order.
    std::vector<OutputInfo> outputs() const;
    /// Errors: no run yet, no such output, or one that lies in the caller's memory alone, as logits do.
    Status view(std::string_view name, OutputView *view) const;

    ModelInfo info() const;    ///< As describe(), with the classes of the loaded weights.
    int classes() const;       ///< Of a last linear layer, as the loaded weights say, or as built; 0: there is none.
    int threads() const;       ///< As asked for, or as 0 came to; in a child process 1.
    bool has_weights() const;  ///< Whether run() can be called.
    const char *isa() const;   ///< "sse41", "avx2", "avx512", "avx512x2" or "neon".

  private:
    std::unique_ptr<ModelState> state_;
};

}  // namespace shufflenet::inline SHUFFLENET_ABI
