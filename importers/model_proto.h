// An ONNX file as a protocol buffer.
#pragma once

#include <cstddef>
#include <span>

#include "onnx.pb.h"
#include "onnx_file.h"
#include "refusal.h"

namespace shufflenet::imports {

/// Throws Refusal where the bytes are none.
onnx::ModelProto parse_model(std::span<const std::byte> file);

/// Of ONNX's own operators. Throws Refusal where it is older or newer than what is known here.
int64_t operator_set(const onnx::ModelProto &model);

}  // namespace shufflenet::imports
