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

#include "shufflenet/status.h"

extern "C" {
/// Generated tables of one model; each model's header declares its own (`<name>_descriptor`).
struct shufflenet_descriptor;
}

namespace shufflenet::inline SHUFFLENET_ABI {

struct ModelState;

/// Backbone outputs. Canonical (torchvision's) channel order.
enum class Feature {
    kStage2 = 0,  ///< 8 times smaller than the input, rounded up.
    kStage3,      ///< 16 times smaller.
    kStage4,      ///< 32 times smaller.
    kConv5,       ///< 32 times smaller, before the global average pool; computed only for who asks.
};
/// How many there are.
inline constexpr int kFeatures = 4;

/// Order of a tensor's elements, the outermost dimension first.
enum class Layout {
    kNCHW,  ///< Image, channel, row, column, as torchvision has them.
    kNHWC,  ///< Image, row, column, channel.
};

/// Shape of one image's tensor.
struct FeatureShape {
    int channels = 0;  ///< Without padding.
    int height = 0;    ///< Rows.
    int width = 0;     ///< Columns.
    /// Floats of one image.
    size_t elements() const { return size_t(channels) * size_t(height) * size_t(width); }
};

/// A feature of the last image of the last run, in place and without a copy: element (c, y, x) is
/// data[channel_offset[c] + (y * width + x) * pixel_stride]. Valid until the next run of the same model object.
struct FeatureView {
    FeatureShape shape;                       ///< Of one image.
    const float *data;                        ///< In the model's arena.
    ptrdiff_t pixel_stride;                   ///< From a pixel to the next, in floats.
    std::span<const int32_t> channel_offset;  ///< Of each channel at pixel 0, in floats.
};

/// Where run() puts a feature of every image of the batch: batch * elements() floats; empty: not wanted.
struct FeatureRequest {
    Feature feature;       ///< Which output.
    Layout layout;         ///< Of `out`.
    std::span<float> out;  ///< Receives the copy.
};

/// What a model is.
struct ModelInfo {
    std::string name;               ///< NAME of shufflenet_add_model().
    std::string network;            ///< Its NETWORK.
    int height = 0;                 ///< Of the input, in pixels.
    int width = 0;                  ///< Of the input, in pixels.
    int classes = 0;                ///< As built, or as the weights say.
    std::string targets;            ///< Instruction sets compiled in, comma separated, best last.
    bool embedded_weights = false;  ///< Whether it was built with EMBED.
    std::string metadata;           ///< The embedded JSON (labels, resize, mean, std); empty: none.
    size_t arena_bytes = 0;         ///< Memory of activations and scratch for one thread; constant.
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
/// Nothing here throws but what returns a ModelInfo; a Status of kOutOfMemory is what std::bad_alloc would have said.
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
    /// The weights that were compiled in (EMBED).
    Status load_embedded_weights();

    /// A second model object with the same weights, an arena and threads of its own.
    Status share(Model *other, int threads = 1) const;

    /// Logits of a batch. `input`: batch * 3 * height * width floats, NCHW, normalised; `logits`: batch * classes.
    /// No exceptions, no heap allocation on success. Results do not depend on the thread count.
    /// A NaN in an image makes all of its logits NaN, and what it reaches of its features; infinities propagate as in
    /// IEEE arithmetic, as in PyTorch. Other images of the batch, and later runs, keep their bits.
    Status run(std::span<const float> input, int batch, std::span<float> logits,
               std::span<const FeatureRequest> features = {}) noexcept;

    /// Of a model that is not open, this and what follows is empty, 0 or "".
    FeatureShape feature_shape(Feature feature) const;
    /// kConv5 is there only if the last run asked for it; otherwise, and before the first run, an error.
    Status view(Feature feature, FeatureView *view) const;

    ModelInfo info() const;    ///< As describe(), with the classes of the loaded weights.
    int classes() const;       ///< Logits of an image: as the loaded weights say, or as built.
    int threads() const;       ///< As asked for, or as 0 came to; in a child process 1.
    bool has_weights() const;  ///< Whether run() can be called.
    const char *isa() const;   ///< "sse41", "avx2", "avx512", "avx512x2" or "neon".

  private:
    std::unique_ptr<ModelState> state_;
};

}  // namespace shufflenet::inline SHUFFLENET_ABI
