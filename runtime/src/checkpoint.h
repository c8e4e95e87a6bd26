// A network's weights out of a safetensors file with the names of its state_dict, batch normalisation folded.
#pragma once

#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "safetensors.h"
#include "shufflenet/descriptor.h"
#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// torch.nn.BatchNorm2d's default, which torchvision's ShuffleNetV2 keeps.
inline constexpr double kBatchNormEps = 1e-5;

/// What a file of weights must hold. Views; tools make it from a graph, the runtime from a program.
struct NeededWeights {
    std::string_view network;                  ///< As messages call it.
    std::span<const shufflenet_layer> layers;  ///< In order.
    bool any_classes = false;                  ///< Whether the file decides the outputs of the last, linear layer.
};

/// Number of the output that a last linear layer writes, whose channels a weight file decides; -1: there is none.
int classes_output(const shufflenet_program &program);

NeededWeights needed_weights(std::string_view network, const shufflenet_program &program);

/// What a file of a network's weights decides.
struct StateDict {
    int classes = 0;     ///< 0: nothing of the kind.
    std::string prefix;  ///< Before every name, e.g. "module." of torch.nn.DataParallel; mostly empty.
};

/// Names every tensor that is needed and the file lacks, has too many, or has in another shape or type, and which of
/// `others` the file fits far better. All names may begin with one prefix.
Status check_state_dict(const Safetensors &file, const std::string &file_name, const NeededWeights &needed,
                        StateDict *out, std::span<const NeededWeights> others = {});

/// Whether check_state_dict() finds nothing wrong. Faster where something is.
bool is_state_dict(const Safetensors &file, const NeededWeights &needed);

/// The prefix with which the file's names fit best.
std::string best_prefix(const Safetensors &file, const NeededWeights &needed);

/// What stands before `name`, up to a dot, in the names of tensors that end so; at most eight.
std::vector<std::string> prefixes_of(const Safetensors &file, const std::string &name);

/// Whether a tensor only counts what training did.
bool is_training_count(std::string_view name);

/// Gives the layers one after another, and a layer's weights one output channel after another: nothing but the file and
/// what is made of it need lie in memory.
class FoldingReader {
  public:
    /// Checks names, shapes and types. The file must outlive the reader.
    Status open(const Safetensors &file, const std::string &file_name, const NeededWeights &needed);

    /// See StateDict.
    int classes() const { return dict_.classes; }
    /// Likewise.
    const std::string &prefix() const { return dict_.prefix; }

    /// Goes to the next layer, as the file has it; there must be one.
    const shufflenet_layer &next();
    /// Of the layer: its biases (out), folded; zeros where it has none.
    const std::vector<double> &bias() const { return bias_; }
    /// Of the layer: the weights (in, ky, kx) of one output channel, not folded: that is, times
    /// scale(channel). Valid until the next call.
    std::span<const float> weights(int channel);
    double scale(int channel) const { return scale_[channel]; }

    /// When everything was read: what is wrong with the values. They must be finite, and finite floats when folded.
    Status status() const;

  private:
    std::vector<double> read_all(const std::string &name, double least = std::numeric_limits<double>::lowest());
    /// The tensor that is the network's `name`; there must be one.
    const Tensor &tensor(const std::string &name) const { return *file_->find(dict_.prefix + name); }
    /// Elements first, first + 1, ... of a tensor of weights.
    void decode(const Tensor &tensor, size_t first, std::span<float> values);
    /// Bytes of a tensor: a view of memory or, read from a file, of block_.
    const std::byte *fetch(const Tensor &tensor, size_t first, size_t count);
    void fold_bias(const std::string &norm);
    /// Notes the first value that is not finite or below `least`. `first`: the number of values[0] in the tensor.
    void note_bad_value(const Tensor &tensor, std::span<const float> values, size_t first, double least);
    void note_too_large();

    const Safetensors *file_ = nullptr;
    std::string file_name_;
    StateDict dict_;
    std::vector<shufflenet_layer> layers_;
    size_t next_ = 0;

    const shufflenet_layer *layer_ = nullptr;
    const Tensor *tensor_ = nullptr;  ///< The layer's weights.
    std::vector<double> scale_, bias_;
    std::vector<float> row_;
    std::vector<std::byte> block_;                     ///< What was read ahead of a tensor's data,
    const Tensor *block_tensor_ = nullptr;             ///< of which,
    size_t block_first_ = 0;                           ///< and from which byte on.
    std::vector<std::string> bad_values_, too_large_;  ///< One message a tensor, one a layer.
    Status read_status_;
};

struct FoldedLayer {
    std::vector<double> weights;  ///< (out, in, ky, kx), `in` of a group
    std::vector<double> bias;     ///< (out)
};

struct Checkpoint {
    int classes = 0;     ///< See StateDict.
    std::string prefix;  ///< Likewise.
    std::vector<FoldedLayer> layers;
};

/// All of it at once. On error `out` is unchanged.
Status read_checkpoint(const Safetensors &file, const std::string &file_name, const NeededWeights &needed,
                       Checkpoint *out);

}  // namespace shufflenet::inline SHUFFLENET_ABI
