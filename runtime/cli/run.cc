// shufflenet run: tensors in, tensors out.
#include <algorithm>
#include <cmath>
#include <deque>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "commands.h"
#include "error.h"
#include "runtime/src/file.h"
#include "runtime/src/finite.h"
#include "runtime/src/message.h"
#include "runtime/src/npy.h"
#include "terminal.h"

namespace shufflenet::cli {

namespace {

/// What a run writes, and where.
struct OutputTensor {
    std::string name;
    std::string path;
    std::vector<int64_t> shape;
    std::vector<float> data;
};

/// The later of two outputs would replace the earlier. Devices and pipes take any number.
void refuse_equal_paths(const std::vector<OutputTensor> &outputs) {
    std::set<std::string> seen;
    for (const OutputTensor &output : outputs) {
        const std::string file = written_file(output.path);
        if (!file.empty() && !seen.insert(file).second) {
            throw UsageError("two outputs to one file: " + output.path + " (see shufflenet run --help)");
        }
    }
}

/// "DIR/<output>.npy"; an ONNX file's names may have slashes.
std::string path_in(const std::string &directory, std::string output) {
    std::ranges::replace(output, '/', '_');
    return (std::filesystem::path(directory) / (output + ".npy")).string();
}

void make_directory(const std::string &path) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) throw Error(path + ": cannot be created: " + error.message());
}

/// Without their memory: which outputs go where.
std::vector<OutputTensor> wanted_outputs(const RunOptions &options, const shufflenet_descriptor &descriptor) {
    const std::vector<OutputInfo> all = describe(descriptor).outputs;
    std::vector<OutputTensor> wanted;
    if (options.output) wanted.push_back({all.front().name, *options.output, {}, {}});
    for (const auto &[name, path] : options.features) {
        if (std::ranges::find(all, name, &OutputInfo::name) == all.end()) {
            std::string known;
            for (const OutputInfo &output : all) known += (known.empty() ? "" : ", ") + output.name;
            throw Error("unknown output '" + name + "' of " + descriptor.name + ": expected one of " + known);
        }
        wanted.push_back({name, path, {}, {}});
    }
    if (options.output_dir) {
        for (const OutputInfo &output : all) {
            wanted.push_back({output.name, path_in(*options.output_dir, output.name), {}, {}});
        }
    }
    refuse_equal_paths(wanted);
    return wanted;
}

/// The files of a run, which appear together.
class Outputs {
  public:
    void add(const std::string &path, std::span<const int64_t> shape, std::span<const float> data) {
        std::vector<std::byte> &content = contents_.emplace_back();
        check(serialize_npy(shape, data, path, &content));
        files_.push_back({path, content});
    }
    void write() const { check(write_files_atomically(files_)); }

  private:
    std::deque<std::vector<std::byte>> contents_;
    std::vector<NewFile> files_;
};

}  // namespace

Npy read_input(const std::string &path, const ModelInfo &info) {
    Npy input;
    check(read_npy(path, &input));
    const std::vector<int64_t> image = {3, info.height, info.width};
    if (input.shape.size() != 4 || input.shape[0] < 1 || !std::equal(image.begin(), image.end(), &input.shape[1])) {
        throw Error(path + ": expected shape [N, 3, " + std::to_string(info.height) + ", " +
                    std::to_string(info.width) + "] with N >= 1 for " + info.name + ", found " +
                    message::shape_text(input.shape));
    }
    return input;
}

std::string non_finite_text(const Npy &input) {
    const auto found = std::ranges::find_if(input.data, [](float value) { return !is_finite(value); });
    if (found == input.data.end()) return "";
    int64_t rest = found - input.data.begin();
    std::string text;
    for (const auto &[name, extent] : {std::pair{"column", input.shape[3]},
                                       {"row", input.shape[2]},
                                       {"channel", input.shape[1]},
                                       {"image", input.shape[0]}}) {
        text = std::string(name) + " " + std::to_string(rest % extent) + (text.empty() ? "" : ", ") + text;
        rest /= extent;
    }
    return (is_nan(*found) ? "NaN" : *found > 0 ? "infinity" : "-infinity") + (" at " + text);
}

namespace {

/// Programs that read the outputs find in them what is not finite; people find it here.
void note_non_finite(const Npy &input, const std::vector<OutputTensor> &outputs, const RunOptions &options) {
    if (const std::string text = non_finite_text(input); !text.empty()) {
        report_note(options.input + ": " + text + ": outputs that depend on it are not finite");
        return;
    }
    for (const OutputTensor &output : outputs) {
        if (std::ranges::all_of(output.data, [](float value) { return is_finite(value); })) continue;
        report_note(output.path + ": the network's output is not finite: its weights overflow");
        return;
    }
}

/// Runs the input, whose shape is the model's, and writes all outputs.
template <typename T>
void run_model(T &model, const shufflenet_descriptor &descriptor, const Npy &input, std::vector<OutputTensor> outputs,
               const RunOptions &options) {
    const int64_t batch = input.shape[0];
    std::vector<OutputRequest> requests;
    for (OutputTensor &output : outputs) {
        const OutputShape shape = model.output_shape(output.name);
        output.shape = dimensions(descriptor, output.name, shape);
        output.shape.insert(output.shape.begin(), batch);
        output.data.resize(batch * shape.elements());
        requests.push_back({output.name, Layout::kNCHW, output.data});
    }
    check(model.run(input.data, static_cast<int>(batch), std::span<const OutputRequest>(requests)));

    Outputs files;
    for (const OutputTensor &output : outputs) files.add(output.path, output.shape, output.data);
    if (options.output_dir) make_directory(*options.output_dir);
    files.write();
    note_non_finite(input, outputs, options);
}

}  // namespace

int run(const RunOptions &options) {
    const shufflenet_descriptor &descriptor = get_model(options.model);
    std::vector<OutputTensor> outputs = wanted_outputs(options, descriptor);
    if (options.device) {
        const Npy input = read_input(options.input, describe(descriptor));
        // Larger batches than these give a device no more to do at a time.
        const auto images = static_cast<int>(std::min<int64_t>(input.shape[0], 64));
        DeviceModel model = open_device_model(descriptor, options.weights, *options.device, images);
        run_model(model, descriptor, input, std::move(outputs), options);
        return 0;
    }
    Model model = open_model(descriptor, options.weights, options.threads);
    run_model(model, descriptor, read_input(options.input, model.info()), std::move(outputs), options);
    return 0;
}

}  // namespace shufflenet::cli
