// A network's weights out of a safetensors file with torchvision's state_dict names, batch normalisation folded.
#pragma once

#include <limits>
#include <span>
#include <string>
#include <vector>

#include "networks/any_network.h"
#include "safetensors.h"
#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// torch.nn.BatchNorm2d's default, which torchvision's ShuffleNetV2 keeps.
inline constexpr double kBatchNormEps = 1e-5;

/// Names every tensor that `network` needs and the file lacks, has too many, or has in another shape or type.
/// `classes` receives the file's class count.
Status check_state_dict(const Safetensors &file, const std::string &file_name, const AnyNetwork &network, int *classes);

/// Gives the layers that have weights one after another, in the order of network_layers(), and a layer's weights one
/// output channel after another: nothing but the file and what is made of it need lie in memory.
class FoldingReader {
  public:
    /// Checks names, shapes and types. The file must outlive the reader.
    Status open(const Safetensors &file, const std::string &file_name, const AnyNetwork &network);

    /// The file's class count.
    int classes() const { return classes_; }

    /// Goes to the next layer that has weights; there must be one.
    const Layer &next();
    /// Of the layer: its biases (out), folded.
    const std::vector<double> &bias() const { return bias_; }
    /// Of the layer: the weights (in / groups, ky, kx) of one output channel, not folded: that is, times
    /// scale(channel). Valid until the next call.
    std::span<const float> weights(int channel);
    double scale(int channel) const { return scale_[channel]; }

    /// When everything was read: what is wrong with the values. They must be finite, and finite floats when folded.
    Status status() const;

  private:
    std::vector<double> read_all(const std::string &name, double least = std::numeric_limits<double>::lowest());
    /// Elements first, first + 1, ... of an F32 or F16 tensor.
    void decode(const Tensor &tensor, size_t first, std::span<float> values);
    /// Bytes of a tensor: a view of memory or, read from a file, of block_.
    const std::byte *fetch(const Tensor &tensor, size_t first, size_t count);
    void fold_bias(const std::string &norm);
    /// Notes the first value that is not finite or below `least`. `first`: the number of values[0] in the tensor.
    void note_bad_value(const Tensor &tensor, std::span<const float> values, size_t first, double least);
    void note_too_large();

    const Safetensors *file_ = nullptr;
    std::string file_name_;
    int classes_ = 0;
    std::vector<Layer> layers_;
    size_t next_ = 0;

    const Layer *layer_ = nullptr;
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
    std::vector<double> weights;  ///< (out, in / groups, ky, kx)
    std::vector<double> bias;     ///< (out)
};

struct Checkpoint {
    int classes = 0;
    std::vector<FoldedLayer> layers;  ///< One per row of network_layers(); empty where the row has no weights.
};

/// All of it at once. On error `out` is unchanged.
Status read_checkpoint(const Safetensors &file, const std::string &file_name, const AnyNetwork &network,
                       Checkpoint *out);

}  // namespace shufflenet
