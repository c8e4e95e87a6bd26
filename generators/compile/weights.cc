#include "weights.h"

#include <span>
#include <stdexcept>

#include "runtime/src/canonical.h"
#include "runtime/src/checkpoint.h"
#include "runtime/src/pack.h"
#include "runtime/src/safetensors.h"

namespace shufflenet::compile {

namespace {

void check(const Status &status) {
    if (!status.ok()) throw std::runtime_error("--weights: " + std::string(status.message()));
}

Safetensors open(const std::string &path) {
    Safetensors file;
    check(Safetensors::open(path, &file));
    return file;
}

PackedWeights pack(const std::string &path, const ProgramData &data) {
    PackedWeights packed;
    check(pack_weights(open(path), path, data.graph().name, data.program(), &packed));
    return packed;
}

}  // namespace

int check_weights(const std::string &path, const ProgramData &data) { return pack(path, data).classes; }

std::vector<std::byte> packed_weights(const std::string &path, const ProgramData &data) {
    const PackedWeights packed = pack(path, data);
    const std::span bytes = std::as_bytes(packed.floats);
    return {bytes.begin(), bytes.end()};
}

std::vector<std::byte> half_weights(const std::string &path, const ProgramData &data) {
    const Safetensors file = open(path);
    StateDict dict;
    check(check_state_dict(file, path, needed_weights(data.graph().name, data.program()), &dict));
    CanonicalWeights canonical;
    check(canonical_weights(file, path, dict.prefix, Precision::kHalf, &canonical));
    return serialize_safetensors(canonical.tensors);
}

}  // namespace shufflenet::compile
