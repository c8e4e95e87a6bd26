// In place of the other files about ONNX where protocol buffers are not wanted (SHUFFLENET_ONNX=OFF).
#include "lower.h"
#include "onnx_file.h"
#include "runtime/src/message.h"

namespace shufflenet {

namespace {

Status refusal(const std::string &name) {
    return message::bad_input(name, "this program was built without ONNX (SHUFFLENET_ONNX=OFF)");
}

}  // namespace

Status read_onnx(std::span<const std::byte>, const std::string &name, const networks::Graph *, Size, OnnxNetwork *) {
    return refusal(name);
}

Status with_outputs(std::span<const std::byte>, const std::string &name, const OnnxNetwork &, FloatModel *) {
    return refusal(name);
}

Status import_onnx(std::span<const std::byte>, const std::string &name, std::optional<Size>, ImportedNetwork *) {
    return refusal(name);
}

}  // namespace shufflenet
