// importers/lower.h: ONNX files operator by operator. What the graphs compute is compared with what ONNX Runtime made
// of real files; what cannot be compiled is named.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "importers/graph_weights.h"
#include "importers/lower.h"
#include "networks/graph_text.h"
#include "networks/program.h"
#include "onnx.pb.h"
#include "reference/reference.h"
#include "runtime/src/file.h"
#include "runtime/src/npy.h"
#include "runtime/src/safetensors.h"

namespace shufflenet {
namespace {

const std::string kModels = SHUFFLENET_SHARED_DATA "/../models/";

std::vector<reference::LayerWeights> weights_of(const ImportedNetwork &network) {
    Safetensors file;
    Checkpoint checkpoint;
    EXPECT_TRUE(Safetensors::parse(network.safetensors, "weights", &file).ok());
    const Status status = read_checkpoint(file, "weights", GraphWeights(network.graph).needed(), &checkpoint);
    EXPECT_EQ(status.message(), "");
    std::vector<reference::LayerWeights> weights(network.graph.layers.size());
    auto next = checkpoint.layers.begin();
    for (size_t i = 0; i < weights.size() && next != checkpoint.layers.end(); ++i) {
        if (!network.graph.layers[i].has_weights()) continue;
        weights[i].weights.assign(next->weights.begin(), next->weights.end());
        weights[i].bias.assign(next->bias.begin(), next->bias.end());
        ++next;
    }
    return weights;
}

/// A file, an input, and the outputs that ONNX Runtime computed of it.
struct RealFile {
    const char *name, *file, *input;
    std::vector<const char *> outputs;
};

class RealFiles : public testing::TestWithParam<RealFile> {};

/// As the file lays an output out.
std::vector<double> in_file_order(const networks::Output &output, const reference::Tensor &tensor) {
    if (!output.pixels_first) return tensor.data;
    std::vector<double> values;
    for (int p = 0; p < tensor.pixels(); ++p) {
        for (int c = 0; c < tensor.channels; ++c) values.push_back(tensor.plane(c)[p]);
    }
    return values;
}

TEST_P(RealFiles, ComputeWhatOnnxRuntimeDoes) {
#ifdef SHUFFLENET_EMULATED
    GTEST_SKIP() << "naive loops over whole networks take an emulator minutes";
#endif
    const std::string folder = kModels + GetParam().name + "/";
    if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
    std::vector<std::byte> file;
    ASSERT_EQ(read_file(folder + GetParam().file, &file).message(), "");
    ImportedNetwork network;
    ASSERT_EQ(import_onnx(file, GetParam().file, {}, &network).message(), "");
    EXPECT_EQ(make_program(network.graph).bytes_moved(), 0);
    Npy input;
    ASSERT_EQ(read_npy(folder + GetParam().input, &input).message(), "");
    // The first image.
    input.data.resize(input.data.size() / static_cast<size_t>(input.shape[0]));
    const std::vector<reference::Tensor> found = reference::run(network.graph, weights_of(network), input.data);
    ASSERT_EQ(found.size(), GetParam().outputs.size());
    for (size_t o = 0; o < found.size(); ++o) {
        SCOPED_TRACE(network.graph.outputs[o].name);
        Npy expected;
        ASSERT_EQ(read_npy(folder + GetParam().outputs[o], &expected).message(), "");
        const std::vector<double> values = in_file_order(network.graph.outputs[o], found[o]);
        ASSERT_EQ(values.size(), expected.data.size() / static_cast<size_t>(expected.shape[0]));
        const std::vector<int> &shape = network.graph.outputs[o].shape;
        EXPECT_TRUE(std::ranges::equal(shape, std::span(expected.shape).subspan(1)));
        double range = 0, error = 0;
        for (size_t i = 0; i < values.size(); ++i) {
            range = std::max(range, std::abs(double{expected.data[i]}));
            error = std::max(error, std::abs(values[i] - expected.data[i]));
        }
        // ONNX Runtime computes in single precision: see kTolerance of expected.h.
        EXPECT_LE(error, 1e-5 * range);
    }
}

INSTANTIATE_TEST_SUITE_P(
    Files, RealFiles,
    testing::Values(RealFile{"fastestdet", "FastestDet.onnx", "x.npy", {"y.npy"}},
                    RealFile{"nanodet_m",
                             "nanodet_m_320.onnx",
                             "x.npy",
                             {"y.cls_pred_stride_8.npy", "y.cls_pred_stride_16.npy", "y.cls_pred_stride_32.npy",
                              "y.dis_pred_stride_8.npy", "y.dis_pred_stride_16.npy", "y.dis_pred_stride_32.npy"}},
                    RealFile{"imagenet_x1_0", "shufflenet-v2-12-qdq.onnx", "x4.npy", {"logits_float.npy"}}),
    [](const auto &info) { return std::string(info.param.name); });

/// A graph of operator set 13 that takes (1, 3, 8, 8), written node by node.
class File {
  public:
    File() {
        model_.add_opset_import()->set_version(13);
        onnx::GraphProto &graph = *model_.mutable_graph();
        add_value(*graph.add_input(), "x", {1, 3, 8, 8});
    }
    onnx::NodeProto &node(const std::string &op, const std::vector<std::string> &inputs, const std::string &output) {
        onnx::NodeProto &node = *model_.mutable_graph()->add_node();
        node.set_op_type(op);
        node.set_name("the_" + output);
        for (const std::string &input : inputs) node.add_input(input);
        node.add_output(output);
        return node;
    }
    void weight(const std::string &name, const std::vector<int64_t> &dims, float value = 0.5F) {
        onnx::TensorProto &tensor = *model_.mutable_graph()->add_initializer();
        tensor.set_name(name);
        tensor.set_data_type(onnx::TensorProto::FLOAT);
        int64_t count = 1;
        for (const int64_t dim : dims) tensor.add_dims(dim), count *= dim;
        for (int64_t i = 0; i < count; ++i) tensor.add_float_data(value);
    }
    void integers(const std::string &name, const std::vector<int64_t> &values) {
        onnx::TensorProto &tensor = *model_.mutable_graph()->add_initializer();
        tensor.set_name(name);
        tensor.set_data_type(onnx::TensorProto::INT64);
        tensor.add_dims(static_cast<int64_t>(values.size()));
        for (const int64_t value : values) tensor.add_int64_data(value);
    }
    static void set(onnx::NodeProto &node, const char *name, const std::vector<int64_t> &values) {
        onnx::AttributeProto &attribute = *node.add_attribute();
        attribute.set_name(name);
        attribute.set_type(onnx::AttributeProto::INTS);
        for (const int64_t value : values) attribute.add_ints(value);
    }
    static void set(onnx::NodeProto &node, const char *name, int64_t value) {
        onnx::AttributeProto &attribute = *node.add_attribute();
        attribute.set_name(name);
        attribute.set_type(onnx::AttributeProto::INT);
        attribute.set_i(value);
    }
    static void set(onnx::NodeProto &node, const char *name, const char *value) {
        onnx::AttributeProto &attribute = *node.add_attribute();
        attribute.set_name(name);
        attribute.set_type(onnx::AttributeProto::STRING);
        attribute.set_s(value);
    }
    /// A convolution of the input to `channels`.
    void stem(int64_t channels = 4) {
        weight("w", {channels, 3, 1, 1});
        node("Conv", {"x", "w"}, "c");
    }
    Status import(ImportedNetwork *out, const std::vector<std::string> &outputs = {"y"}) {
        onnx::GraphProto &graph = *model_.mutable_graph();
        for (const std::string &name : outputs) add_value(*graph.add_output(), name, {});
        std::string bytes;
        model_.SerializeToString(&bytes);
        return import_onnx(std::as_bytes(std::span(bytes)), "some.onnx", {}, out);
    }
    onnx::ModelProto &model() { return model_; }

  private:
    static void add_value(onnx::ValueInfoProto &value, const std::string &name, const std::vector<int64_t> &dims) {
        value.set_name(name);
        onnx::TypeProto::Tensor &type = *value.mutable_type()->mutable_tensor_type();
        type.set_elem_type(onnx::TensorProto::FLOAT);
        for (const int64_t dim : dims) type.mutable_shape()->add_dim()->set_dim_value(dim);
    }
    onnx::ModelProto model_;
};

/// A file, and what its graph is: kinds with activations and output sizes.
struct Lowered {
    const char *name;
    std::function<void(File &)> write;
    const char *layers;
};

class LoweredGraphs : public testing::TestWithParam<Lowered> {};

std::string text_of(const networks::Graph &graph) {
    std::string text;
    for (const networks::Layer &layer : graph.layers) {
        text += std::string(text.empty() ? "" : ", ") + std::string(layer.kind_name()) + " " +
                std::to_string(layer.out_channels) + "x" + std::to_string(layer.out.height) + "x" +
                std::to_string(layer.out.width);
        if (layer.activation != networks::kNoActivation) text += " " + to_string(layer.activation);
    }
    return text;
}

TEST_P(LoweredGraphs, AreWhatTheNodesSay) {
    File file;
    GetParam().write(file);
    ImportedNetwork network;
    ASSERT_EQ(file.import(&network).message(), "");
    EXPECT_EQ(text_of(network.graph), GetParam().layers);
    EXPECT_NO_THROW(make_program(network.graph));
}

const Lowered kLowered[] = {
    {"leaky",
     [](File &f) {
         f.stem();
         f.node("LeakyRelu", {"c"}, "y");
     },
     "pointwise 4x8x8 leaky_relu:0.01"},
    {"read_before_it_is_activated",
     [](File &f) {
         f.stem();
         f.node("Sigmoid", {"c"}, "s");
         f.node("Add", {"c", "s"}, "y");
     },
     "pointwise 4x8x8, activation 4x8x8 sigmoid, add 4x8x8"},
    {"part_of_a_layer",
     [](File &f) {
         f.stem();
         File::set(f.node("Split", {"c"}, "a"), "axis", 1);
         f.model().mutable_graph()->mutable_node(1)->add_output("b");
         f.node("Relu", {"a"}, "r");
         File::set(f.node("Concat", {"r", "b"}, "y"), "axis", 1);
     },
     "pointwise 4x8x8, activation 2x8x8 relu"},
    {"pad_before_a_pool",
     [](File &f) {
         f.stem();
         f.integers("p", {0, 0, 1, 1, 0, 0, 1, 1});
         f.node("Pad", {"c", "p"}, "d");
         onnx::NodeProto &pool = f.node("AveragePool", {"d"}, "y");
         File::set(pool, "kernel_shape", std::vector<int64_t>{3, 3});
         File::set(pool, "strides", std::vector<int64_t>{2, 2});
     },
     "pointwise 4x8x8, average_pool 4x4x4"},
    {"pool_that_hangs_over",
     [](File &f) {
         f.stem();
         onnx::NodeProto &pool = f.node("MaxPool", {"c"}, "y");
         File::set(pool, "kernel_shape", std::vector<int64_t>{3, 3});
         File::set(pool, "strides", std::vector<int64_t>{2, 2});
         File::set(pool, "ceil_mode", 1);
     },
     "pointwise 4x8x8, max_pool 4x4x4"},
    {"resize_by_sizes",
     [](File &f) {
         f.stem();
         f.integers("s", {1, 4, 4, 16});
         File::set(f.node("Resize", {"c", "", "", "s"}, "y"), "mode", "linear");
     },
     "pointwise 4x8x8, resize 4x4x16"},
    {"mean_of_pixels_in_front",
     [](File &f) {
         f.stem();
         File::set(f.node("Transpose", {"c"}, "t"), "perm", {0, 2, 3, 1});
         File::set(f.node("ReduceMean", {"t"}, "y"), "axes", {1, 2});
     },
     "pointwise 4x8x8, global_pool 4x1x1"},
    {"softmax_of_channels_in_front",
     [](File &f) {
         f.stem();
         File::set(f.node("Transpose", {"c"}, "t"), "perm", {0, 3, 2, 1});
         f.node("Softmax", {"t"}, "u");
         File::set(f.node("Transpose", {"u"}, "y"), "perm", {0, 3, 2, 1});
     },
     "pointwise 4x8x8, softmax 4x8x8"},
};
INSTANTIATE_TEST_SUITE_P(Nodes, LoweredGraphs, testing::ValuesIn(kLowered),
                         [](const auto &info) { return std::string(info.param.name); });

TEST(Lower, OutputsHaveTheFilesShapes) {
    File file;
    file.stem();
    File::set(file.node("Transpose", {"c"}, "last"), "perm", {0, 2, 3, 1});
    file.integers("s", {1, 64, 4});
    file.node("Reshape", {"last", "s"}, "rows");
    file.integers("t", {1, 4, 64});
    file.node("Reshape", {"c", "t"}, "flat");
    ImportedNetwork network;
    ASSERT_EQ(file.import(&network, {"last", "rows", "flat", "c"}).message(), "");
    const std::vector<networks::Output> &outputs = network.graph.outputs;
    ASSERT_EQ(outputs.size(), 4U);
    EXPECT_EQ(outputs[0].shape, (std::vector<int>{8, 8, 4}));
    EXPECT_EQ(outputs[1].shape, (std::vector<int>{64, 4}));
    EXPECT_EQ(outputs[2].shape, (std::vector<int>{4, 64}));
    EXPECT_EQ(outputs[3].shape, (std::vector<int>{4, 8, 8}));
    for (const networks::Output &output : outputs) {
        EXPECT_EQ(output.tensor, network.graph.tensor(0));
        EXPECT_EQ(output.pixels_first, &output < &outputs[2]) << output.name;
    }
    EXPECT_EQ(graph_to_text(networks::graph_from_text(graph_to_text(network.graph))), graph_to_text(network.graph));
}

struct Refused {
    const char *name;
    std::function<void(File &)> write;
    const char *message;
};

class RefusedFiles : public testing::TestWithParam<Refused> {};

TEST_P(RefusedFiles, NameTheNodeAndTheReason) {
    File file;
    GetParam().write(file);
    ImportedNetwork network;
    network.graph.name = "before";
    EXPECT_EQ(file.import(&network).message(), std::string("some.onnx: ") + GetParam().message);
    EXPECT_EQ(network.graph.name, "before");
}

const Refused kRefused[] = {
    {"operator",
     [](File &f) {
         f.stem();
         f.node("Erf", {"c"}, "y");
     },
     "node 'the_y' (Erf): is of an operator that is not known here"},
    {"clip",
     [](File &f) {
         f.stem();
         f.weight("low", {}, 1);
         f.node("Clip", {"c", "low"}, "y");
     },
     "node 'the_y' (Clip): clips to 1.000000 to 340282346638528859811704183484516925440.000000, expected 0 to 6"},
    {"scale",
     [](File &f) {
         f.stem();
         f.weight("s", {4}, 1.3F);
         f.node("Resize", {"c", "", "s"}, "y");
     },
     "node 'the_y' (Resize): scales 4 axes, expected rows and columns alone"},
    {"mode",
     [](File &f) {
         f.stem();
         f.integers("s", {1, 4, 16, 16});
         File::set(f.node("Resize", {"c", "", "", "s"}, "y"), "mode", "cubic");
     },
     "node 'the_y' (Resize): has mode cubic, expected nearest or linear"},
    {"softmax",
     [](File &f) {
         f.stem();
         f.node("Softmax", {"c"}, "y");
     },
     "node 'the_y' (Softmax): is over axis 3 of shape [1, 4, 8, 8], expected channels"},
    {"mean_of_channels",
     [](File &f) {
         f.stem();
         File::set(f.node("Transpose", {"c"}, "t"), "perm", {0, 2, 3, 1});
         File::set(f.node("ReduceMean", {"t"}, "y"), "axes", {2, 3});
     },
     "node 'the_y' (ReduceMean): takes the mean of axes [2, 3] of shape [1, 8, 8, 4], expected all pixels of [N, C, H, "
     "W]"},
    {"bias_of_rows",
     [](File &f) {
         f.stem(8);
         File::set(f.node("Transpose", {"c"}, "t"), "perm", {0, 2, 3, 1});
         f.weight("b", {8, 1, 1});
         f.node("Add", {"t", "b"}, "y");
     },
     "node 'the_y' (Add): adds shape [8, 1, 1] to node 'the_c' (Conv), expected one bias of shape [8, 1, 1]"},
    {"pad_of_channels",
     [](File &f) {
         f.stem();
         f.integers("p", {0, 1, 0, 0, 0, 0, 0, 0});
         f.node("Pad", {"c", "p"}, "y");
     },
     "node 'the_y' (Pad): pads [0, 1, 0, 0, 0, 0, 0, 0], expected rows and columns"},
    {"sum",
     [](File &f) {
         f.stem();
         onnx::NodeProto &pool = f.node("MaxPool", {"c"}, "d");
         File::set(pool, "kernel_shape", std::vector<int64_t>{2, 2});
         f.node("Add", {"c", "d"}, "y");
     },
     "node 'the_y' (Add): adds shapes [1, 4, 8, 8] and [1, 4, 7, 7]"},
    {"output",
     [](File &f) {
         f.stem();
         File::set(f.node("Transpose", {"c"}, "y"), "perm", {0, 3, 2, 1});
     },
     "output 'y' is not channels and pixels as layers compute them"},
};
INSTANTIATE_TEST_SUITE_P(Nodes, RefusedFiles, testing::ValuesIn(kRefused),
                         [](const auto &info) { return std::string(info.param.name); });

}  // namespace
}  // namespace shufflenet
