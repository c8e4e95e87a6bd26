// WHAT a network is: layers over lists of channels.
//
// A tensor is a list of channels, each of which says which layer computes it and as which of its outputs.
// Concatenation, split, slice, channel shuffle and any other permutation of channels are operations on such lists, done
// while the graph is built: they are no layers, and nothing computes them.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "size.h"

namespace shufflenet::networks {

/// What is done to each output of a layer, last of all.
struct Activation {
    enum class Kind : uint8_t {
        kNone,
        kRelu,       ///< max(x, 0)
        kRelu6,      ///< min(max(x, 0), 6)
        kLeakyRelu,  ///< x where x >= 0, else slope * x
        kSigmoid,    ///< 1 / (1 + exp(-x))
    };
    Kind kind = Kind::kNone;
    float slope = 0;

    constexpr bool operator==(const Activation &) const = default;
    constexpr auto operator<=>(const Activation &) const = default;
    /// Whether no output is below zero, so that zero is as good as nothing at all for a maximum.
    constexpr bool non_negative() const {
        return kind == Kind::kRelu || kind == Kind::kRelu6 || kind == Kind::kSigmoid;
    }
};
inline constexpr Activation kNoActivation{};
inline constexpr Activation kRelu{Activation::Kind::kRelu};
inline constexpr Activation kRelu6{Activation::Kind::kRelu6};
inline constexpr Activation kSigmoid{Activation::Kind::kSigmoid};
constexpr Activation leaky_relu(float slope) { return {Activation::Kind::kLeakyRelu, slope}; }

/// "none", "relu", "relu6", "sigmoid" or "leaky_relu:0.1".
std::string to_string(const Activation &activation);
/// The reverse; false: the text is none of these.
bool parse_activation(std::string_view text, Activation *out);

/// The layer that stands for the network's input, whose channels are the image's.
inline constexpr int kImage = -1;

/// One channel of a tensor: output `index` of layer `layer`.
struct Channel {
    int layer = kImage;
    int index = 0;
    constexpr bool operator==(const Channel &) const = default;
    constexpr auto operator<=>(const Channel &) const = default;
};

/// Channels of one size, in the tensor's order.
struct Tensor {
    std::vector<Channel> channels;
    Size size;

    int count() const { return static_cast<int>(channels.size()); }
    bool operator==(const Tensor &) const = default;
};

enum class LayerKind : uint8_t {
    kConvolution,  ///< Any window, any groups; 1x1 and depthwise ones included.
    kMaxPool,      ///< What is beyond the border does not count.
    kAveragePool,  ///< See Layer::counts_padding.
    kGlobalPool,   ///< The mean of all pixels.
    kLinear,       ///< Fully connected, of one pixel.
    kAdd,          ///< Two tensors.
    kResize,       ///< To another size, see Layer::resize.
    kSoftmax,      ///< Over the channels of each pixel.
    // What a framework computes of its own, and no published network has: for experiments.
    kActivation,  ///< Element by element.
    kCopy,        ///< A tensor anew: a concatenation, slice or shuffle that moves its channels.
};

/// A window that slides over rows and columns.
struct Window {
    Size kernel{1, 1}, stride{1, 1};
    /// Rows above and columns to the left that count as zeros; below and to the right as many as the output needs.
    Size padding{0, 0};

    constexpr bool pointwise() const { return kernel == Size{1, 1} && stride == Size{1, 1}; }
    constexpr bool operator==(const Window &) const = default;
    constexpr auto operator<=>(const Window &) const = default;
};

/// A square window of odd size with padding kernel / 2, as the networks here have it.
constexpr Window square(int kernel, int stride = 1) {
    return {{kernel, kernel}, {stride, stride}, {kernel / 2, kernel / 2}};
}

/// How a resized image's pixels are found in the original: ONNX's operator Resize, with scales that are the sizes'
/// ratio.
struct Resize {
    enum class Mode : uint8_t { kNearest, kBilinear };
    enum class Coordinates : uint8_t {
        kHalfPixel,    ///< (x + 1/2) in / out - 1/2
        kAsymmetric,   ///< x in / out
        kAlignCorners  ///< x (in - 1) / (out - 1)
    };
    /// Which pixel is the nearest.
    enum class Rounding : uint8_t { kFloor, kPreferFloor, kPreferCeil, kCeil };
    Mode mode = Mode::kNearest;
    Coordinates coordinates = Coordinates::kHalfPixel;
    Rounding rounding = Rounding::kFloor;

    constexpr bool operator==(const Resize &) const = default;
    constexpr auto operator<=>(const Resize &) const = default;
};

/// Where output pixel x of a side is in the original: (scale * x + offset) / divisor, exactly.
struct ResizePosition {
    int scale, offset, divisor;
};
/// `rounding` of the nearest pixel is part of it: the integer below is that pixel.
ResizePosition resize_position(const Resize &resize, int in, int out);

/// Output size of a window over `in` with as much padding on either side: (in + 2 padding - kernel) / stride + 1.
Size window_size(const Window &window, Size in);

struct Layer {
    LayerKind kind{};
    /// Identifier, unique in the graph: a C identifier such as "stage3_unit0_branch2_pw1".
    std::string id{};
    /// torch's module names of the weights, e.g. "stage3.0.branch2.0" and of its batch normalisation; empty: none.
    std::string module{}, norm{};
    /// Whether a module without normalisation has a bias.
    bool bias = true;
    /// What it reads: one tensor, of an addition two.
    std::vector<Tensor> in{};
    int out_channels = 0;
    Size out{};
    Window window{};
    /// Output channels of a group read the input channels of the same group alone.
    int groups = 1;
    Activation activation{};
    /// Of an average: whether it is over all of the window, padding counted as zeros, or over what lies in the image.
    bool counts_padding = true;
    Resize resize{};

    bool has_weights() const { return !module.empty(); }
    int in_channels() const { return in.front().count(); }
    /// Each channel for itself; with one channel, dense and depthwise are the same.
    bool depthwise() const {
        const bool only = out_channels == 1 && !window.pointwise();
        return kind == LayerKind::kConvolution && groups == in_channels() && (groups > 1 || only);
    }
    bool pointwise() const { return kind == LayerKind::kConvolution && window.pointwise() && !depthwise(); }
    /// Input channels that one output channel reads.
    int group_channels() const { return in_channels() / groups; }
    /// Elements of the weight tensor (out, in / groups, ky, kx); 0 without weights.
    int64_t weight_elements() const {
        return has_weights() ? int64_t{out_channels} * group_channels() * window.kernel.pixels() : 0;
    }
    /// Learned parameters as torchvision counts them: weights, and normalisation's scale and shift or the bias.
    int64_t parameters() const {
        if (!has_weights()) return 0;
        return weight_elements() + (norm.empty() ? int{bias} : 2) * int64_t{out_channels};
    }
    /// Multiply-adds of one image, "FLOPs" in the paper (footnote 1); pooling counts none.
    int64_t flops() const { return weight_elements() * out.pixels(); }
    /// Memory access cost in elements: inputs, output and weights once each (paper section 2, G1: hw(c1+c2)+c1c2).
    int64_t mac() const {
        int64_t elements = int64_t{out.pixels()} * out_channels + weight_elements();
        for (const Tensor &tensor : in) elements += int64_t{tensor.size.pixels()} * tensor.count();
        return elements;
    }
    /// What the layer is called in tables: "conv", "depthwise", "pointwise", "max_pool", "average_pool", "global_pool",
    /// "fully_connected", "add", "resize", "softmax", "activation", "copy".
    std::string_view kind_name() const;
};

/// What a network returns under a name: "logits", "stage3", an ONNX file's output.
struct Output {
    std::string name;
    Tensor tensor;
    /// Of an image as files have it, where that is another one than channels, rows, columns; as many elements.
    std::vector<int> shape{};
    /// Whether channels are the last of it: [row][column][channel] in memory.
    bool pixels_first = false;
};

struct Graph {
    std::string name;  ///< "shufflenet_v2_x1_0"
    Size input{};
    int image_channels = 3;
    std::vector<Layer> layers;  ///< In an order in which they can be computed.
    std::vector<Output> outputs;

    /// All channels of a layer, in order; of the image for kImage.
    Tensor tensor(int layer) const;
    const Output *find_output(std::string_view output) const;
};

struct Cost {
    int64_t flops = 0, mac = 0, parameters = 0;
};
Cost total_cost(const Graph &graph);

/// MAC of a 1x1 convolution at least, from its FLOPs B: 2 sqrt(hwB) + B/(hw), where hw is its pixels (paper, eq. 1).
double mac_lower_bound(double hw, double flops);

/// Throws std::logic_error, naming the layer, where a graph does not hold together: layers that read what comes later,
/// sizes or groups that do not fit, two layers of one name, an output without channels.
void check(const Graph &graph);

/// Takes away layers that no output needs.
void remove_unread(Graph *graph);

/// Makes a graph layer by layer. Each function returns the tensor that it makes; those that only permute channels add
/// nothing to the graph.
class GraphBuilder {
  public:
    GraphBuilder(std::string name, Size input, int image_channels = 3);

    Tensor image() const { return graph_.tensor(kImage); }

    /// A convolution's names in weight files.
    struct Module {
        std::string conv, norm;
        bool bias = true;
    };
    Tensor convolution(const std::string &id, const Module &module, const Tensor &in, int out_channels,
                       const Window &window, const Activation &activation, int groups = 1);
    Tensor pointwise(const std::string &id, const Module &module, const Tensor &in, int out_channels,
                     const Activation &activation, int groups = 1);
    Tensor depthwise(const std::string &id, const Module &module, const Tensor &in, const Window &window,
                     const Activation &activation = kNoActivation);
    Tensor max_pool(const std::string &id, const Tensor &in, const Window &window);
    Tensor average_pool(const std::string &id, const Tensor &in, const Window &window, bool counts_padding = true);
    Tensor global_pool(const std::string &id, const Tensor &in);
    Tensor linear(const std::string &id, const Module &module, const Tensor &in, int out_channels);
    Tensor add(const std::string &id, const Tensor &a, const Tensor &b, const Activation &activation = kNoActivation);
    Tensor resize(const std::string &id, const Tensor &in, Size out, const Resize &resize);
    Tensor softmax(const std::string &id, const Tensor &in);
    Tensor activate(const std::string &id, const Tensor &in, const Activation &activation);
    Tensor copy(const std::string &id, const Tensor &in);

    static Tensor concat(const std::vector<Tensor> &tensors);
    static Tensor slice(const Tensor &in, int first, int count, int step = 1);
    /// Channel i of group g becomes channel i * groups + g (torchvision's channel_shuffle).
    static Tensor shuffle(const Tensor &in, int groups);
    /// Channel i of the result is channel order[i].
    static Tensor permute(const Tensor &in, const std::vector<int> &order);

    void output(const std::string &name, const Tensor &tensor);

    /// Checked, and without layers that no output needs.
    Graph take();

  private:
    Tensor append(Layer layer);
    Graph graph_;
};

}  // namespace shufflenet::networks
