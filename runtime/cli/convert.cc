// shufflenet convert: a checked weight file in canonical form.
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <optional>
#include <vector>

#include "commands.h"
#include "error.h"
#include "networks/any_network.h"
#include "runtime/import/megvii.h"
#include "runtime/import/onnx_file.h"
#include "runtime/src/canonical.h"
#include "runtime/src/checkpoint.h"
#include "runtime/src/file.h"
#include "runtime/src/file_kind.h"
#include "runtime/src/message.h"
#include "runtime/src/safetensors.h"

namespace shufflenet::cli {

namespace {

/// Weight tensors of the network that the file has in the right shape. The class count is the file's business.
int matching_weights(const Safetensors &file, const AnyNetwork &network) {
    int matches = 0;
    const std::string prefix = best_prefix(file, network);
    for (const Layer &layer : network_layers(network, {kDefaultCrop, kDefaultCrop}, kDefaultClasses)) {
        if (!layer.has_weights() || layer.kind == LayerKind::kFullyConnected) continue;
        const Tensor *tensor = file.find(prefix + std::string(layer.conv.view()) + ".weight");
        const std::vector<int64_t> shape = {layer.out_channels, layer.group_channels(), layer.kernel(), layer.kernel()};
        if (tensor != nullptr && tensor->shape == shape) ++matches;
    }
    return matches;
}

/// The network whose weights these are, or that they resemble most.
AnyNetwork recognise(const Safetensors &file) {
    AnyNetwork nearest = kNetworks.front();
    int best = 0;
    for (const AnyNetwork &network : published_networks()) {
        if (is_state_dict(file, network)) return network;
        if (const int matches = matching_weights(file, network); matches > best) {
            nearest = network;
            best = matches;
        }
    }
    return nearest;
}

bool fits_comparison(const Safetensors &file) {
    return std::ranges::any_of(kComparisons, [&](const Comparison &c) { return is_state_dict(file, c); });
}

AnyNetwork network_named(const std::string &name) {
    std::string names;
    for (const AnyNetwork &network : published_networks()) {
        if (network.name() == name) return network;
        names += (names.empty() ? "" : ", ") + std::string(network.name());
    }
    throw Error("unknown network '" + name + "': expected one of " + names);
}

/// What a file holds, with torchvision's names, and what to say about where it came from.
struct Source {
    std::vector<std::byte> bytes;  ///< What `file` views, unless it is read piece by piece.
    Safetensors file;
    std::string remark;
};

bool is_onnx(const std::string &path, std::span<const std::byte> start) {
    const std::filesystem::path extension = std::filesystem::path(path).extension();
    if (extension == ".onnx" || extension == ".safetensors") return extension == ".onnx";
    return recognise_file(start).kind == FileKind::kOnnx;
}

std::string remark_of(const OnnxNetwork &onnx) {
    std::string text = ", input ";
    text += onnx.size ? size_text(onnx.size->height, onnx.size->width) : "of any size";
    text += onnx.folded ? ", batch normalisation folded" : "";
    if (onnx.order == ChannelOrder::kMegvii) text += ", channels reordered from Megvii's";
    if (onnx.order == ChannelOrder::kOther) text += ", channels reordered";
    return text;
}

/// `named`: the network that the user named, if it is a ShuffleNetV2.
void read_onnx_source(const std::string &path, std::span<const std::byte> file, const Network *named, Source *source) {
    OnnxNetwork onnx;
    check(read_onnx(file, path, named, {kDefaultCrop, kDefaultCrop}, &onnx));
    source->bytes = std::move(onnx.safetensors);
    source->remark = remark_of(onnx);
    check(Safetensors::parse(source->bytes, path, &source->file));
}

/// `named`: the network that the user named.
Source read_source(const std::string &path, const std::optional<AnyNetwork> &named) {
    Source source;
    const Network *forced = named ? named->shufflenet_v2() : nullptr;
    FileStart start;
    check(read_start(path, kRecognisedBytes, &start));
    if (is_onnx(path, start.bytes)) {
        if (named && forced == nullptr) {
            throw Error(path + ": ONNX files are read for ShuffleNetV2, not for " + std::string(named->name()));
        }
        if (!start.is_all()) check(read_expected(path, kOnnxFile, &start.bytes));
        read_onnx_source(path, start.bytes, forced, &source);
        return source;
    }
    source.bytes = std::move(start.bytes);
    check(start.size == source.bytes.size() ? Safetensors::parse(source.bytes, path, &source.file)
                                            : Safetensors::open(path, &source.file));
    // ShuffleNetV1 has the names of Megvii's ShuffleNetV2, and its channels in its own order.
    if ((named && forced == nullptr) || fits_comparison(source.file) || !has_megvii_names(source.file)) {
        return source;
    }
    Source renamed{{}, {}, ", channels reordered from Megvii's"};
    check(read_megvii(source.file, path, forced, &renamed.bytes));
    check(Safetensors::parse(renamed.bytes, path, &renamed.file));
    return renamed;
}

}  // namespace

int convert(const ConvertOptions &options) {
    std::optional<AnyNetwork> named;
    if (options.network) named = network_named(*options.network);
    const Source source = read_source(options.input, named);
    const AnyNetwork network = named ? *named : recognise(source.file);
    Checkpoint checkpoint;
    check(read_checkpoint(source.file, options.input, network, &checkpoint));

    const Precision precision = options.f16 ? Precision::kHalf : options.f32 ? Precision::kSingle : Precision::kAsItIs;
    CanonicalWeights weights;
    check(canonical_weights(source.file, options.input, checkpoint.prefix, precision, &weights));
    check(write_file_atomically(options.output, serialize_safetensors(weights.tensors)));
    std::error_code error;
    std::ostream &report = std::filesystem::equivalent(options.output, "/dev/stdout", error) ? std::cerr : std::cout;
    report << message::one_line(options.output) << ": " << network.name() << ", " << checkpoint.classes << " classes, "
           << weights.tensors.size() << " tensors" << source.remark;
    if (!checkpoint.prefix.empty()) report << ", without " << message::shortened(checkpoint.prefix) << " before names";
    report << '\n';
    return 0;
}

}  // namespace shufflenet::cli
