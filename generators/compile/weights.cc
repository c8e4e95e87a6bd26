#include "weights.h"

#include <span>
#include <stdexcept>

#include "runtime/src/canonical.h"
#include "runtime/src/checkpoint.h"
#include "runtime/src/pack.h"
#include "runtime/src/safetensors.h"

namespace shufflenet::compile {

namespace {

/// Where weights come from, for messages.
const std::string &source_of(const Options &options) { return options.imported ? options.onnx : options.weights; }

void check(const Options &options, const Status &status) {
    const std::string flag = options.imported ? "--onnx: " : "--weights: ";
    if (!status.ok()) throw std::runtime_error(flag + std::string(status.message()));
}

Safetensors open(const Options &options) {
    Safetensors file;
    check(options, options.imported ? Safetensors::parse(options.imported->safetensors, options.onnx, &file)
                                    : Safetensors::open(options.weights, &file));
    return file;
}

PackedWeights pack(const Options &options, const ProgramData &data) {
    PackedWeights packed;
    check(options, pack_weights(open(options), source_of(options), data.graph().name, data.program(), &packed));
    return packed;
}

}  // namespace

int check_weights(const Options &options, const ProgramData &data) { return pack(options, data).classes; }

std::vector<std::byte> packed_weights(const Options &options, const ProgramData &data) {
    const PackedWeights packed = pack(options, data);
    const std::span bytes = std::as_bytes(packed.floats);
    return {bytes.begin(), bytes.end()};
}

std::vector<std::byte> half_weights(const Options &options, const ProgramData &data) {
    const Safetensors file = open(options);
    StateDict dict;
    const std::string &name = source_of(options);
    check(options, check_state_dict(file, name, needed_weights(data.graph().name, data.program()), &dict));
    CanonicalWeights canonical;
    check(options, canonical_weights(file, name, dict.prefix, Precision::kHalf, &canonical));
    return serialize_safetensors(canonical.tensors);
}

}  // namespace shufflenet::compile
