// shufflenet convert: a checked weight file in canonical form.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <filesystem>
#include <iostream>
#include <vector>

#include "commands.h"
#include "error.h"
#include "networks/layers.h"
#include "runtime/import/megvii.h"
#include "runtime/import/onnx_file.h"
#include "runtime/src/checkpoint.h"
#include "runtime/src/file.h"
#include "runtime/src/half.h"
#include "runtime/src/message.h"
#include "runtime/src/safetensors.h"

namespace shufflenet::cli {

namespace {

/// Weight tensors of the network that the file has in the right shape. The class count is the file's business.
int matching_weights(const Safetensors &file, const Network &network) {
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
const Network &recognise(const Safetensors &file, const std::string &path) {
    const Network *nearest = &kNetworks.front();
    int best = 0;
    for (const Network &network : kNetworks) {
        int classes = 0;
        if (check_state_dict(file, path, network, &classes).ok()) return network;
        if (const int matches = matching_weights(file, network); matches > best) {
            nearest = &network;
            best = matches;
        }
    }
    return *nearest;
}

const Network &network_named(const std::string &name) {
    std::string names;
    for (const Network &network : kNetworks) {
        if (network.name == name) return network;
        names += (names.empty() ? "" : ", ") + std::string(network.name);
    }
    throw Error("unknown network '" + name + "': expected one of " + names);
}

/// IEEE 754 half precision, rounded to nearest even; nothing if that is not finite.
std::optional<uint16_t> float_to_half(float value) {
    constexpr int kInfinity = 0x7C00;
    if (!std::isfinite(value)) return {};
    // Unit in the last place: 2^(exponent - 10), and 2^-24 for all subnormals. A carry out of the rounded units moves
    // into the exponent's bits by itself.
    const int exponent = value == 0 ? -14 : std::max(std::ilogb(value), -14);
    const auto units = static_cast<int>(std::nearbyint(std::ldexp(std::fabs(double{value}), 10 - exponent)));
    const int bits = (exponent + 14) * 1024 + units;
    if (bits >= kInfinity) return {};
    return static_cast<uint16_t>(bits | (std::signbit(value) ? 0x8000 : 0));
}

template <typename T>
T load(std::span<const std::byte> bytes, size_t i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    return value;
}

template <typename T>
void store(std::vector<std::byte> &bytes, size_t i, T value) {
    std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
}

std::vector<std::byte> halves_of(const Tensor &tensor, const std::string &path) {
    const size_t count = tensor.data.size() / sizeof(float);
    std::vector<std::byte> bytes(count * sizeof(uint16_t));
    for (size_t i = 0; i < count; ++i) {
        const auto value = load<float>(tensor.data, i);
        const std::optional<uint16_t> half = float_to_half(value);
        if (!half) throw Error(path + ": " + tensor.name + ": " + std::to_string(value) + " is too large for F16");
        store(bytes, i, *half);
    }
    return bytes;
}

std::vector<std::byte> floats_of(const Tensor &tensor) {
    const size_t count = tensor.data.size() / sizeof(uint16_t);
    std::vector<std::byte> bytes(count * sizeof(float));
    for (size_t i = 0; i < count; ++i) {
        store(bytes, i, static_cast<float>(half_to_double(load<uint16_t>(tensor.data, i))));
    }
    return bytes;
}

/// The tensors that are weights, in the wanted type. Converted data are kept in `storage`.
std::vector<Tensor> canonical(const Safetensors &file, const ConvertOptions &options,
                              std::deque<std::vector<std::byte>> &storage) {
    std::vector<Tensor> tensors;
    for (Tensor tensor : file.tensors()) {
        if (tensor.name.ends_with(".num_batches_tracked")) continue;
        if (options.f16 && tensor.dtype == "F32") {
            tensor.data = storage.emplace_back(halves_of(tensor, options.input));
            tensor.dtype = "F16";
        } else if (options.f32 && tensor.dtype == "F16") {
            tensor.data = storage.emplace_back(floats_of(tensor));
            tensor.dtype = "F32";
        }
        tensors.push_back(std::move(tensor));
    }
    return tensors;
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

Source read_source(const std::string &path, const Network *forced) {
    Source source;
    check(read_file(path, &source.bytes));
    if (is_onnx(path, source.bytes)) {
        OnnxNetwork onnx;
        check(read_onnx(source.bytes, path, forced, {kDefaultCrop, kDefaultCrop}, &onnx));
        return {std::move(onnx.safetensors), remark_of(onnx)};
    }
    Safetensors file;
    check(Safetensors::parse(source.bytes, path, &file));
    if (!has_megvii_names(file)) return source;
    Source renamed{{}, ", channels reordered from Megvii's"};
    check(read_megvii(file, path, forced, &renamed.bytes));
    return renamed;
}

}  // namespace

int convert(const ConvertOptions &options) {
    const Network *forced = options.network ? &network_named(*options.network) : nullptr;
    const Source source = read_source(options.input, forced);
    Safetensors file;
    check(Safetensors::parse(source.bytes, options.input, &file));
    const Network &network = forced != nullptr ? *forced : recognise(file, options.input);
    Checkpoint checkpoint;
    check(read_checkpoint(file, options.input, network, &checkpoint));

    std::deque<std::vector<std::byte>> storage;
    const std::vector<Tensor> tensors = canonical(file, options, storage);
    check(write_file_atomically(options.output, serialize_safetensors(tensors)));
    std::cout << message::one_line(options.output) << ": " << network.name << ", " << checkpoint.classes << " classes, "
              << tensors.size() << " tensors" << source.remark << '\n';
    return 0;
}

}  // namespace shufflenet::cli
