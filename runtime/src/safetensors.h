// The safetensors container: named tensors in one buffer, described by a JSON header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI {

class InputFile;

struct Tensor {
    std::string name, dtype;
    std::vector<int64_t> shape;
    std::span<const std::byte> data;  ///< Empty where a file is read piece by piece.
    size_t offset = 0, bytes = 0;     ///< Of the data, among those of all tensors.
};

class Safetensors {
  public:
    /// Checks the whole header against the file. The tensors' data stay views of `file`, which must outlive `out`;
    /// `name` is what error messages call the file. On error `out` is unchanged.
    static Status parse(std::span<const std::byte> file, const std::string &name, Safetensors *out);

    /// The same from a regular file, of which only the header is read here, and kept open.
    static Status open(std::shared_ptr<const InputFile> file, Safetensors *out);

    /// Copies bytes of a tensor, from byte `first` of it on. Fails only where a file is read.
    Status read(const Tensor &tensor, size_t first, std::span<std::byte> to) const;

    /// The tensor of that name, or nullptr.
    const Tensor *find(std::string_view name) const;

    /// All tensors, sorted by name.
    const std::vector<Tensor> &tensors() const { return tensors_; }

  private:
    std::vector<Tensor> tensors_;
    std::shared_ptr<const InputFile> file_;
    size_t buffer_ = 0;  ///< Where the tensors' data begin in the file.
};

/// The canonical file of these tensors: sorted by name, header padded to 8 bytes. Names must be distinct UTF-8 and
/// data as long as shape and dtype say. Throws std::bad_alloc only.
std::vector<std::byte> serialize_safetensors(std::span<const Tensor> tensors);

}  // namespace shufflenet
