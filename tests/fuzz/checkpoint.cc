// From a weight file to packed weights. The input is what is done to a good file, because a mutator would hardly make
// one: pieces of 4 bytes of place, 1 of length, and as many bytes to put there.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "check.h"
#include "file.h"
#include "generators/compile/program_data.h"
#include "networks/catalog.h"
#include "pack.h"
#include "reference/random_weights.h"

using namespace shufflenet;

namespace {

constexpr Size kInput{32, 32};

std::vector<std::byte> damaged(std::vector<std::byte> file, std::span<const uint8_t> damage) {
    while (damage.size() > 5) {
        uint32_t place = 0;
        std::memcpy(&place, damage.data(), sizeof place);
        place %= file.size();
        const size_t length = std::min({size_t{damage[4]}, damage.size() - 5, file.size() - place});
        std::memcpy(file.data() + place, damage.data() + 5, length);
        damage = damage.subspan(5 + length);
    }
    return file;
}

void require_good(const PackedWeights &packed, const PackedWeights &same) {
    fuzz::require(std::ranges::all_of(packed.floats, [](float weight) { return std::isfinite(weight); }),
                  "accepted weights are finite");
    fuzz::require(std::ranges::equal(packed.floats, same.floats), "a file is read like memory");
}

Status open_file(std::span<const std::byte> bytes, Safetensors *out) {
    const int file = memfd_create("weights", 0);
    fuzz::require(file >= 0 && write(file, bytes.data(), bytes.size()) == std::ssize(bytes), "the input is in a file");
    std::shared_ptr<const InputFile> input;
    const std::string path = "/proc/self/fd/" + std::to_string(file);
    const Status status = InputFile::open(path, &input);
    fuzz::require(status.ok() && input != nullptr, "the file can be opened");
    close(file);
    return Safetensors::open(std::move(input), out);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const networks::Graph network = *networks::published_network("test_tiny", kInput, 3);
    static const compile::ProgramData program(networks::make_program(network));
    static const std::vector<std::byte> good = reference::random_safetensors(network, 1);
    const std::vector<std::byte> file = damaged(good, {data, size});
    Safetensors tensors, streamed;
    const Status status = Safetensors::parse(file, fuzz::kName, &tensors);
    const Status streamed_status = open_file(file, &streamed);
    fuzz::require(status.code() == streamed_status.code(), "a file is read like memory");
    if (!fuzz::accepted(status)) return 0;

    PackedWeights packed, other;
    const Status packed_status = pack_weights(tensors, fuzz::kName, network.name, program.program(), &packed);
    const Status other_status = pack_weights(streamed, fuzz::kName, network.name, program.program(), &other);
    fuzz::require(packed_status.message() == other_status.message(), "a file is read like memory");
    if (!fuzz::accepted(packed_status)) return 0;
    require_good(packed, other);
    return 0;
}
