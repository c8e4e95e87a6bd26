// shufflenet classify: photographs to labels.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <limits>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "commands.h"
#include "error.h"
#include "images.h"
#include "models/compiled_models.h"
#include "peak.h"
#include "results.h"
#include "runtime/src/file.h"
#include "runtime/src/finite.h"
#include "runtime/src/message.h"
#include "runtime/src/metadata.h"
#include "shufflenet/image.h"
#include "terminal.h"

namespace shufflenet::cli {

namespace {

/// Preprocessing and labels, and what to call their source.
struct NamedMetadata {
    std::string name;
    Metadata data;
};

/// Metadata written for another input size serve too: the resize keeps its proportion to the crop.
void fit_to_model(NamedMetadata &metadata, const ModelInfo &info) {
    Metadata &m = metadata.data;
    if (m.network != info.network) {
        throw Error(metadata.name + ": expected metadata for " + info.network + ", found " +
                    message::shortened(m.network));
    }
    if (m.height == info.height && m.width == info.width) return;
    const double scale = static_cast<double>(std::min(info.height, info.width)) / std::min(m.height, m.width);
    m.preprocess.resize = std::max(1, static_cast<int>(std::lround(m.preprocess.resize * scale)));
    m.preprocess.crop_height = info.height;
    m.preprocess.crop_width = info.width;
}

NamedMetadata read_metadata(const std::string &path, const ModelInfo &info) {
    NamedMetadata metadata{path, {}};
    check(read_metadata(path, &metadata.data));
    fit_to_model(metadata, info);
    return metadata;
}

/// A file that was found by its name may be somebody else's.
NamedMetadata read_metadata_beside(const std::string &path, const ModelInfo &info) try {
    return read_metadata(path, info);
} catch (const Error &error) {
    throw Error(std::string(error.what()) + " (read because it lies beside the weights; --metadata names another)");
}

/// Metadata belong to weights: those beside the weight file come first; the embedded ones belong to other weights and
/// serve only where the classes can be the same.
NamedMetadata choose_metadata(const ClassifyOptions &options, const shufflenet_descriptor &descriptor,
                              const ModelInfo &info) {
    if (options.metadata) return read_metadata(*options.metadata, info);
    if (options.weights) {
        const auto beside = std::filesystem::path(*options.weights).replace_extension(".json");
        std::error_code ignored;
        if (std::filesystem::exists(beside, ignored)) return read_metadata_beside(beside.string(), info);
    }
    if (!info.metadata.empty() && info.classes == descriptor.classes) {
        NamedMetadata embedded{info.name + " (embedded metadata)", {}};
        check(parse_metadata(info.metadata, embedded.name, &embedded.data));
        fit_to_model(embedded, info);
        return embedded;
    }
    return {info.name, default_metadata(info.network, info.height, info.width, usual_resize(info.network))};
}

std::vector<std::string> choose_labels(const ClassifyOptions &options, const NamedMetadata &metadata, int classes) {
    std::string source = metadata.name;
    std::vector<std::string> labels = metadata.data.labels;
    if (options.labels) {
        source = *options.labels;
        check(read_labels(source, &labels));
    } else if (labels.empty()) {
        for (int i = 0; i < classes; ++i) labels.push_back("class " + std::to_string(i));
    }
    if (labels.size() != static_cast<size_t>(classes)) {
        throw Error(source + ": expected " + std::to_string(classes) + " labels, one for each class, found " +
                    std::to_string(labels.size()));
    }
    return labels;
}

std::vector<Guess> best_guesses(std::span<const float> logits, int top) {
    const double largest = *std::max_element(logits.begin(), logits.end());
    std::vector<Guess> guesses;
    double sum = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
        guesses.push_back({static_cast<int>(i), std::exp(logits[i] - largest)});
        sum += guesses.back().probability;
    }
    for (Guess &guess : guesses) guess.probability /= sum;
    const auto count = std::min<ptrdiff_t>(top, std::ssize(guesses));
    const auto better = [](const Guess &a, const Guess &b) {
        return a.probability != b.probability ? a.probability > b.probability : a.label < b.label;
    };
    std::partial_sort(guesses.begin(), guesses.begin() + count, guesses.end(), better);
    guesses.resize(count);
    return guesses;
}

Image read_image(const std::string &path) {
    Image image;
    if (path != kStandardInput) {
        check(decode_image_file(path, &image));
        return image;
    }
    const std::string name = "standard input";
    std::vector<std::byte> bytes;
    check(read_stream(STDIN_FILENO, name, &bytes));
    check(decode_image({reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()}, name, &image));
    return image;
}

using AnyModel = std::variant<Model, DeviceModel>;

AnyModel open_any(const ClassifyOptions &options, const shufflenet_descriptor &descriptor) {
    if (!options.device) return open_model(descriptor, options.weights, options.threads);
    return open_device_model(descriptor, options.weights, *options.device, 1);
}

/// The name of the output that says the classes.
std::string output_of(const ModelInfo &info, const std::vector<OutputInfo> &outputs) {
    for (const auto &[name, shape] : outputs) {
        if (info.classes > 0 && shape.channels == info.classes && shape.height * shape.width == 1) return name;
    }
    throw Error(info.name + ": has no output of classes: 'shufflenet run' writes those that it has");
}

/// A model with everything that stands between a photograph and labels.
class Classifier {
  public:
    explicit Classifier(const ClassifyOptions &options)
        : descriptor_(options.model ? get_model(*options.model) : default_model()),
          model_(open_any(options, descriptor_)),
          top_(options.top) {
        ModelInfo info = describe(descriptor_);
        info.classes = std::visit([](const auto &model) { return model.classes(); }, model_);
        output_ = output_of(info, std::visit([](const auto &model) { return model.outputs(); }, model_));
        const NamedMetadata metadata = choose_metadata(options, descriptor_, info);
        how_ = metadata.data.preprocess;
        how_.orient = !options.no_orient;
        labels_ = choose_labels(options, metadata, info.classes);
        input_.resize(size_t{3} * info.height * info.width);
        logits_.resize(info.classes);
        // The first run also pays for page faults, which are not a photograph's to report.
        run();
    }

    Result classify(const std::string &path) {
        const Image image = read_image(path);
        if (const Status status = preprocess(image, how_, input_); !status.ok()) {
            throw Error(path + ": " + message_of(status));
        }
        const auto start = std::chrono::steady_clock::now();
        run();
        const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
        if (!std::all_of(logits_.begin(), logits_.end(), [](float value) { return is_finite(value); })) {
            throw Error(path + ": the network's output is not finite: its weights overflow");
        }
        return {path, best_guesses(logits_, top_), time.count()};
    }

    const std::vector<std::string> &labels() const { return labels_; }
    /// The one on the CPU.
    const Model &model() const { return std::get<Model>(model_); }

  private:
    void run() {
        const OutputRequest request{output_, Layout::kNCHW, logits_};
        check(std::visit([&](auto &model) { return model.run(input_, 1, std::span(&request, 1)); }, model_));
    }

    const shufflenet_descriptor &descriptor_;
    AnyModel model_;
    int top_;
    std::string output_;  ///< The one with the logits.
    Preprocess how_;
    std::vector<std::string> labels_;
    std::vector<float> input_, logits_;
};

void print_peak(const Model &model, const std::vector<Result> &results) {
    double fastest = std::numeric_limits<double>::infinity();
    for (const Result &result : results) fastest = std::min(fastest, result.milliseconds);
    const networks::Cost cost = total_cost(graph_of(get_model(model.info().name), model.classes()));
    const double gflops = 2e-6 * static_cast<double>(cost.flops) / fastest;
    const double peak = fma_peak_gflops(model.isa(), model.threads());
    std::cout << "\nfastest run: " << fixed(fastest, 2) << " ms, " << fixed(gflops, 1) << " GFLOP/s, "
              << fixed(100 * gflops / peak, 0) << " % of the multiply-add peak measured here (" << fixed(peak, 1)
              << " GFLOP/s, " << model.isa() << ", " << model.threads()
              << (model.threads() == 1 ? " thread)\n" : " threads)\n");
}

}  // namespace

int classify(const ClassifyOptions &options) {
    Classifier classifier(options);
    const ImageList images = list_images(options.images, options.files_from);
    for (const std::string &note : images.notes) report_note(note);
    for (const std::string &problem : images.problems) report_error(problem);

    const bool at_the_end = !options.json && !options.csv;
    Progress progress(images.paths.size(), at_the_end ? Progress::Results::kAtTheEnd : Progress::Results::kOneByOne);
    std::vector<Result> results;
    size_t done = 0, good = 0;
    for (const std::string &path : images.paths) {
        progress.show(done++);
        try {
            Result result = classifier.classify(path);
            if (options.csv && good == 0) print_csv_header();
            ++good;
            if (options.csv) print_csv(result, classifier.labels());
            if (options.json) print_json(result, classifier.labels());
            if (at_the_end) results.push_back(std::move(result));
        } catch (const Error &error) {
            progress.clear();
            report_error(error.what());
        }
    }
    progress.clear();
    if (!results.empty()) {
        print_table(results, classifier.labels());
        if (options.peak) print_peak(classifier.model(), results);
    }
    return good == images.paths.size() && images.problems.empty() ? 0 : 1;
}

}  // namespace shufflenet::cli
