// shufflenet run: tensors in, tensors out.
#include <algorithm>
#include <cmath>
#include <deque>
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

struct FeatureTensor {
    std::vector<int64_t> shape;
    std::vector<float> data;
};

/// The later of two outputs would replace the earlier. Devices and pipes take any number.
void refuse_equal_paths(const RunOptions &options) {
    std::set<std::string> seen;
    const auto add = [&](const std::string &path) {
        const std::string file = written_file(path);
        if (!file.empty() && !seen.insert(file).second) {
            throw UsageError("two outputs to one file: " + path + " (see shufflenet run --help)");
        }
    };
    add(options.output);
    for (const RunOptions::FeatureFile &feature : options.features) add(feature.path);
}

template <typename T>
FeatureTensor make_feature(const T &model, Feature feature, int64_t batch) {
    const FeatureShape shape = model.feature_shape(feature);
    return {{batch, shape.channels, shape.height, shape.width}, std::vector<float>(batch * shape.elements())};
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
void note_non_finite(const Npy &input, std::span<const float> logits, const RunOptions &options) {
    if (const std::string text = non_finite_text(input); !text.empty()) {
        report_note(options.input + ": " + text + ": outputs that depend on it are not finite");
    } else if (!std::ranges::all_of(logits, [](float value) { return is_finite(value); })) {
        report_note(options.output + ": the network's output is not finite: its weights overflow");
    }
}

/// Runs the input, whose shape is the model's, and writes all outputs.
template <typename T>
void run_model(T &model, const Npy &input, const RunOptions &options) {
    const int64_t batch = input.shape[0];
    const int64_t classes = model.classes();
    std::vector<float> logits(batch * classes);
    std::vector<FeatureTensor> features;
    std::vector<FeatureRequest> requests;
    for (const auto &[feature, path] : options.features) {
        FeatureTensor &tensor = features.emplace_back(make_feature(model, feature, batch));
        requests.push_back({feature, Layout::kNCHW, tensor.data});
    }

    check(model.run(input.data, static_cast<int>(batch), logits, requests));

    Outputs outputs;
    for (size_t i = 0; i < features.size(); ++i) {
        outputs.add(options.features[i].path, features[i].shape, features[i].data);
    }
    outputs.add(options.output, std::vector<int64_t>{batch, classes}, logits);
    outputs.write();
    note_non_finite(input, logits, options);
}

}  // namespace

int run(const RunOptions &options) {
    refuse_equal_paths(options);
    const shufflenet_descriptor &descriptor = get_model(options.model);
    if (options.device) {
        const Npy input = read_input(options.input, describe(descriptor));
        // Larger batches than these give a device no more to do at a time.
        const auto images = static_cast<int>(std::min<int64_t>(input.shape[0], 64));
        DeviceModel model = open_device_model(descriptor, options.weights, *options.device, images);
        run_model(model, input, options);
        return 0;
    }
    Model model = open_model(descriptor, options.weights, options.threads);
    run_model(model, read_input(options.input, model.info()), options);
    return 0;
}

}  // namespace shufflenet::cli
