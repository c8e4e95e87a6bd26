// Whether a model and this runtime were built from the same version.
#pragma once

#include <cstdint>
#include <string>

#include "shufflenet/descriptor.h"
#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// An error that names both versions; then nothing else of the descriptor may be read.
inline Status check_abi(const shufflenet_descriptor &descriptor) {
    const uint32_t found = descriptor.abi;
    if (found == SHUFFLENET_VERSION_NUMBER) return {};
    const std::string version =
        std::to_string(found / 10000) + "." + std::to_string(found / 100 % 100) + "." + std::to_string(found % 100);
    return {Code::kUnsupported, "model descriptor: expected one of version " SHUFFLENET_VERSION
                                ", which this runtime is, found one of version " +
                                    version};
}

}  // namespace shufflenet
