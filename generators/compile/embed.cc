#include "embed.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "text.h"
#include "weights.h"

namespace shufflenet::compile {

namespace {

constexpr std::string_view kWeights = R"(    .balign 64
    .globl @name@, @name@_end
    .hidden @name@, @name@_end
@name@:
    .incbin "@name@.bin"
@name@_end:
)";

constexpr std::string_view kMetadata = R"(    .globl @name@
    .hidden @name@
@name@:
    .incbin "@name@.bin"
    .byte 0
)";

std::string_view text_of(const std::vector<std::byte> &bytes) {
    return {reinterpret_cast<const char *>(bytes.data()), bytes.size()};
}

/// Assembly that holds the file of that name.
std::string add(std::string_view pattern, const std::string &name, std::string_view content, const Staging &staging) {
    write_text(staging.path(name + ".bin"), content);
    return fill(pattern, {{"name", name}});
}

std::string read_metadata(const std::string &path) {
    std::string text = read_text(path, "--metadata");
    const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
    // A byte order mark is none of JSON, but of files.
    if (!json.is_object() || text.find('\0') != std::string::npos) {
        throw std::runtime_error("--metadata: " + path + ": expected a JSON object, found something else");
    }
    return text;
}

}  // namespace

std::string metadata_file(const Options &options) {
    const std::string &data = options.onnx.empty() ? options.weights : options.onnx;
    if (!options.metadata.empty() || data.empty()) return options.metadata;
    const std::string beside = std::filesystem::path(data).replace_extension(".json").string();
    return std::filesystem::is_regular_file(beside) ? beside : "";
}

Embedded embed(const Options &options, const ProgramData &data, Staging *staging) {
    Embedded embedded;
    std::string assembly;
    if (options.embed == Embed::kPacked) {
        embedded.packed = true;
        assembly += add(kWeights, options.name + "_packed", text_of(packed_weights(options, data)), *staging);
    } else if (options.embed == Embed::kHalf) {
        embedded.weights = true;
        assembly += add(kWeights, options.name + "_weights", text_of(half_weights(options, data)), *staging);
    } else if (options.imported) {
        embedded.weights_file = options.name + ".safetensors";
        write_text(staging->path(embedded.weights_file), text_of(options.imported->safetensors));
        staging->keep(embedded.weights_file);
    } else if (!options.weights.empty()) {
        embedded.weights_file = options.name + ".safetensors";
        std::filesystem::copy_file(options.weights, staging->path(embedded.weights_file));
        staging->keep(embedded.weights_file);
    }
    if (const std::string metadata = metadata_file(options); !metadata.empty()) {
        embedded.metadata = true;
        assembly += add(kMetadata, options.name + "_metadata", read_metadata(metadata), *staging);
    }
    if (!assembly.empty()) embedded.assembly = "    .section .rodata\n" + assembly;
    return embedded;
}

}  // namespace shufflenet::compile
