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
#include "runtime/src/message.h"
#include "runtime/src/safetensors.h"

namespace shufflenet::cli {

namespace {

/// Weight tensors of the network that the file has in the right shape. The class count is the file's business.
int matching_weights(const Safetensors &file, const AnyNetwork &network) {
    int matches = 0;
    for (const Layer &layer : network_layers(network, {kDefaultCrop, kDefaultCrop}, kDefaultClasses)) {
        if (!layer.has_weights() || layer.kind == LayerKind::kFullyConnected) continue;
        const Tensor *tensor = file.find(std::string(layer.conv.view()) + ".weight");
        const std::vector<int64_t> shape = {layer.out_channels, layer.group_channels(), layer.kernel(), layer.kernel()};
        if (tensor != nullptr && tensor->shape == shape) ++matches;
    }
    return matches;
}

/// The network whose weights these are, or that they resemble most.
AnyNetwork recognise(const Safetensors &file, const std::string &path) {
    AnyNetwork nearest = kNetworks.front();
    int best = 0;
    for (const AnyNetwork &network : published_networks()) {
        int classes = 0;
        if (check_state_dict(file, path, network, &classes).ok()) return network;
        if (const int matches = matching_weights(file, network); matches > best) {
            nearest = network;
            best = matches;
        }
    }
    return nearest;
}

bool fits_comparison(const Safetensors &file, const std::string &path) {
    int classes = 0;
    return std::ranges::any_of(kComparisons,
                               [&](const Comparison &c) { return check_state_dict(file, path, c, &classes).ok(); });
}

AnyNetwork network_named(const std::string &name) {
    std::string names;
    for (const AnyNetwork &network : published_networks()) {
        if (network.name() == name) return network;
        names += (names.empty() ? "" : ", ") + std::string(network.name());
    }
    throw Error("unknown network '" + name + "': expected one of " + names);
}

/// What a file holds, as a safetensors file with torchvision's names, and what to say about where it came from.
struct Source {
    std::vector<std::byte> bytes;
    std::string remark;
};

/// An ONNX file begins with its version, field 1 of a protocol buffer; a safetensors file has a brace at byte 8.
bool is_onnx(const std::string &path, std::span<const std::byte> bytes) {
    constexpr std::byte kVersionField{0x08};
    constexpr size_t kHeader = 8;
    if (std::filesystem::path(path).extension() == ".onnx") return true;
    return bytes.size() > kHeader && bytes[0] == kVersionField && bytes[kHeader] != std::byte{'{'} &&
           std::filesystem::path(path).extension() != ".safetensors";
}

std::string remark_of(const OnnxNetwork &onnx) {
    std::string text = ", input ";
    text += onnx.size ? size_text(onnx.size->height, onnx.size->width) : "of any size";
    text += onnx.folded ? ", batch normalisation folded" : "";
    if (onnx.order == ChannelOrder::kMegvii) text += ", channels reordered from Megvii's";
    if (onnx.order == ChannelOrder::kOther) text += ", channels reordered";
    return text;
}

/// `named`: the network that the user named.
Source read_source(const std::string &path, const std::optional<AnyNetwork> &named) {
    Source source;
    check(read_file(path, &source.bytes));
    const Network *forced = named ? named->shufflenet_v2() : nullptr;
    if (is_onnx(path, source.bytes)) {
        if (named && forced == nullptr) {
            throw Error(path + ": ONNX files are read for ShuffleNetV2, not for " + std::string(named->name()));
        }
        OnnxNetwork onnx;
        check(read_onnx(source.bytes, path, forced, {kDefaultCrop, kDefaultCrop}, &onnx));
        return {std::move(onnx.safetensors), remark_of(onnx)};
    }
    Safetensors file;
    check(Safetensors::parse(source.bytes, path, &file));
    // ShuffleNetV1 has the names of Megvii's ShuffleNetV2, and its channels in its own order.
    if ((named && forced == nullptr) || fits_comparison(file, path) || !has_megvii_names(file)) return source;
    Source renamed{{}, ", channels reordered from Megvii's"};
    check(read_megvii(file, path, forced, &renamed.bytes));
    return renamed;
}

}  // namespace

int convert(const ConvertOptions &options) {
    std::optional<AnyNetwork> named;
    if (options.network) named = network_named(*options.network);
    const Source source = read_source(options.input, named);
    Safetensors file;
    check(Safetensors::parse(source.bytes, options.input, &file));
    const AnyNetwork network = named ? *named : recognise(file, options.input);
    Checkpoint checkpoint;
    check(read_checkpoint(file, options.input, network, &checkpoint));

    const Precision precision = options.f16 ? Precision::kHalf : options.f32 ? Precision::kSingle : Precision::kAsItIs;
    CanonicalWeights weights;
    check(canonical_weights(file, options.input, precision, &weights));
    check(write_file_atomically(options.output, serialize_safetensors(weights.tensors)));
    std::error_code error;
    std::ostream &report = std::filesystem::equivalent(options.output, "/dev/stdout", error) ? std::cerr : std::cout;
    report << message::one_line(options.output) << ": " << network.name() << ", " << checkpoint.classes << " classes, "
           << weights.tensors.size() << " tensors" << source.remark << '\n';
    return 0;
}

}  // namespace shufflenet::cli
