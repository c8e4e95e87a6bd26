// The commands of `shufflenet`, one source file each. They print on stdout, return the exit status and throw Error.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "description.h"
#include "networks/graph.h"
#include "runtime/src/npy.h"
#include "shufflenet/descriptor.h"
#include "shufflenet/device.h"
#include "shufflenet/model.h"

namespace shufflenet::cli {

struct ListOptions {
    bool json = false;
};
int list(const ListOptions &options);

struct RunOptions {
    struct OutputFile {
        std::string output, path;
    };
    std::string model, input;
    std::optional<std::string> weights, device, output, output_dir;
    std::vector<OutputFile> features;
    int threads = 1;
};
int run(const RunOptions &options);

struct ClassifyOptions {
    std::optional<std::string> model, weights, labels, metadata, files_from, device;
    std::vector<std::string> images;
    int top = 5, threads = 1;
    bool json = false, csv = false, peak = false, no_orient = false;
};
int classify(const ClassifyOptions &options);

struct InfoOptions {
    std::string model;
    bool json = false;
};
int info(const InfoOptions &options);

struct ConvertOptions {
    std::string input, output;
    std::optional<std::string> network;
    bool f16 = false, f32 = false;
};
int convert(const ConvertOptions &options);

struct VerifyOptions {
    std::string model, onnx;
    std::optional<std::string> weights, onnxruntime;
    std::vector<std::string> inputs;
    std::optional<double> tolerance;
    int threads = 1;
    bool reference = false, json = false;
};
int verify(const VerifyOptions &options);

struct CompletionOptions {
    std::string shell;
    ProgramText program;
};
int completion(const CompletionOptions &options);

struct ManualOptions {
    ProgramText program;
};
int manual(const ManualOptions &options);

/// What --version prints: several lines, of which the first is "shufflenet 1.0.0".
std::string version_text();
std::string version_number();

// What several of them need.

/// The compiled-in model of that name, or nullptr.
const shufflenet_descriptor *find_model(const std::string &name);

/// The same; throws an Error that lists the names.
const shufflenet_descriptor &get_model(const std::string &name);

/// A model ready to run, with the weights of the file or, without one, the embedded ones.
Model open_model(const shufflenet_descriptor &descriptor, const std::optional<std::string> &weights, int threads);

/// The same on a device, for batches of up to `images`.
DeviceModel open_device_model(const shufflenet_descriptor &descriptor, const std::optional<std::string> &weights,
                              const std::string &device, int images);

/// Images for the model, (N, 3, height, width), from a .npy file.
Npy read_input(const std::string &path, const ModelInfo &info);

/// The first value of these that is not finite, and where: "NaN at image 0, channel 2, row 5, column 0"; or "".
std::string non_finite_text(const Npy &input);

/// The network of a compiled-in model, with so many classes where it has classes.
networks::Graph graph_of(const shufflenet_descriptor &descriptor, int classes);

/// Of a short side that 224 pixels are cut from, as the network's publisher has it.
int usual_resize(const std::string &network);

/// Of one image: (classes) of a last linear layer, otherwise (channels, height, width).
std::vector<int64_t> dimensions(const shufflenet_descriptor &descriptor, const std::string &output,
                                const OutputShape &shape);

/// "224x224": height, width.
std::string size_text(int height, int width);

}  // namespace shufflenet::cli
