// shufflenet convert: a checked weight file in canonical form.
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <optional>
#include <vector>

#include "commands.h"
#include "error.h"
#include "importers/graph_weights.h"
#include "importers/megvii.h"
#include "importers/onnx_file.h"
#include "importers/recognise.h"
#include "networks/catalog.h"
#include "runtime/src/canonical.h"
#include "runtime/src/checkpoint.h"
#include "runtime/src/file.h"
#include "runtime/src/file_kind.h"
#include "runtime/src/message.h"
#include "runtime/src/safetensors.h"

namespace shufflenet::cli {

namespace {

/// Height and width at which an ONNX file is read that leaves them open.
constexpr int kAssumedInput = 224;

/// The graph of that name; `comparison`: whether it is one of those that the paper compares with.
networks::Graph network_named(const std::string &name, bool *comparison) {
    std::string names;
    for (const networks::PublishedNetwork &row : networks::published_networks()) {
        if (row.test) continue;
        *comparison = row.comparison;
        if (row.name == name) {
            return *networks::published_network(name, {row.crop, row.crop}, networks::kDefaultClasses);
        }
        names += (names.empty() ? "" : ", ") + row.name;
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

/// What the user said of the file.
struct Named {
    std::optional<networks::Graph> network;
    bool comparison = false;

    const networks::Graph *get() const { return network ? &*network : nullptr; }
};

void read_onnx_source(const std::string &path, std::span<const std::byte> file, const Named &named, Source *source) {
    if (named.comparison) {
        throw Error(path + ": ONNX files are read for ShuffleNetV2, not for " + named.network->name);
    }
    OnnxNetwork onnx;
    check(read_onnx(file, path, named.get(), {kAssumedInput, kAssumedInput}, &onnx));
    source->bytes = std::move(onnx.safetensors);
    source->remark = remark_of(onnx);
    check(Safetensors::parse(source->bytes, path, &source->file));
}

Source read_source(const std::string &path, const Named &named) {
    Source source;
    FileStart start;
    check(read_start(path, kRecognisedBytes, &start));
    if (is_onnx(path, start.bytes)) {
        if (!named.comparison && !start.is_all()) check(read_expected(path, kOnnxFile, &start.bytes));
        read_onnx_source(path, start.bytes, named, &source);
        return source;
    }
    source.bytes = std::move(start.bytes);
    check(start.size == source.bytes.size() ? Safetensors::parse(source.bytes, path, &source.file)
                                            : Safetensors::open(path, &source.file));
    // ShuffleNetV1 has the names of Megvii's ShuffleNetV2, and its channels in its own order.
    if (named.comparison || !has_megvii_names(source.file) || exact_network(source.file)) return source;
    Source renamed{{}, {}, ", channels reordered from Megvii's"};
    check(read_megvii(source.file, path, named.get(), &renamed.bytes));
    check(Safetensors::parse(renamed.bytes, path, &renamed.file));
    return renamed;
}

}  // namespace

int convert(const ConvertOptions &options) {
    Named named;
    if (options.network) named.network = network_named(*options.network, &named.comparison);
    const Source source = read_source(options.input, named);
    const GraphWeights weights(named.network ? *named.network : nearest_network(source.file));
    Checkpoint checkpoint;
    check(read_checkpoint(source.file, options.input, weights.needed(), &checkpoint));

    const Precision precision = options.f16 ? Precision::kHalf : options.f32 ? Precision::kSingle : Precision::kAsItIs;
    CanonicalWeights canonical;
    check(canonical_weights(source.file, options.input, checkpoint.prefix, precision, &canonical));
    check(write_file_atomically(options.output, serialize_safetensors(canonical.tensors)));
    std::error_code error;
    std::ostream &report = std::filesystem::equivalent(options.output, "/dev/stdout", error) ? std::cerr : std::cout;
    report << message::one_line(options.output) << ": " << weights.graph().name << ", " << checkpoint.classes
           << " classes, " << canonical.tensors.size() << " tensors" << source.remark;
    if (!checkpoint.prefix.empty()) report << ", without " << message::shortened(checkpoint.prefix) << " before names";
    report << '\n';
    return 0;
}

}  // namespace shufflenet::cli
