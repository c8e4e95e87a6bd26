// What shufflenet_add_model() runs at build time.
//
//     shufflenet_prepare header NETWORK HEIGHT WIDTH IN OUT    fills @arena_bytes@ in, from the network's layout
//     shufflenet_prepare weights NETWORK IN OUT [F16]          checks a weight file and writes it in canonical form
#include <array>
#include <charconv>
#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "networks/any_network.h"
#include "runtime/src/canonical.h"
#include "runtime/src/checkpoint.h"
#include "runtime/src/file.h"
#include "runtime/src/message.h"

namespace shufflenet {

namespace {

using Arguments = std::vector<std::string>;

void check(const Status &status) {
    if (!status.ok()) throw std::runtime_error(status.message());
}

AnyNetwork network_named(const std::string &name) {
    const auto network = find_any_network(name);
    if (!network) throw std::runtime_error("unknown network '" + name + "'");
    return *network;
}

int pixels(const std::string &text) {
    int value = 0;
    const char *end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc() || stop != end || value < 1 || value > kMaxInput) {
        throw std::runtime_error("expected 1 to " + std::to_string(kMaxInput) + " pixels, found '" + text + "'");
    }
    return value;
}

void replace_all(std::string &text, std::string_view what, const std::string &with) {
    for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size())) {
        text.replace(at, what.size(), with);
    }
}

/// NETWORK HEIGHT WIDTH IN OUT
void header(const Arguments &arguments) {
    const Size input{pixels(arguments[1]), pixels(arguments[2])};
    std::vector<std::byte> bytes;
    check(read_file(arguments[3], &bytes));
    std::string text(reinterpret_cast<const char *>(bytes.data()), bytes.size());
    replace_all(text, "@arena_bytes@", std::to_string(arena_bytes(network_named(arguments[0]), input)));
    check(write_file_atomically(arguments[4], std::as_bytes(std::span(text))));
}

/// NETWORK IN OUT [F16]
void weights(const Arguments &arguments) {
    const std::string &path = arguments[1];
    Safetensors file;
    check(Safetensors::open(path, &file));
    Checkpoint checkpoint;
    check(read_checkpoint(file, path, network_named(arguments[0]), &checkpoint));
    CanonicalWeights canonical;
    const Precision precision = arguments.size() > 3 ? Precision::kHalf : Precision::kAsItIs;
    check(canonical_weights(file, path, checkpoint.prefix, precision, &canonical));
    check(write_file_atomically(arguments[2], serialize_safetensors(canonical.tensors)));
}

/// False: bad usage.
bool run(const std::string &command, const Arguments &arguments) {
    const bool half = arguments.size() == 4 && arguments[3] == "F16";
    if (command == "header" && arguments.size() == 5) {
        header(arguments);
    } else if (command == "weights" && (arguments.size() == 3 || half)) {
        weights(arguments);
    } else {
        return false;
    }
    return true;
}

}  // namespace

}  // namespace shufflenet

int main(int argc, char **argv) {
    try {
        if (argc > 1 && shufflenet::run(argv[1], {argv + 2, argv + argc})) return 0;
        std::cerr << "shufflenet_prepare: error: usage: shufflenet_prepare header NETWORK HEIGHT WIDTH IN OUT"
                     " | weights NETWORK IN OUT [F16]\n";
        return 2;
    } catch (const std::exception &error) {
        std::cerr << "shufflenet_prepare: error: " << shufflenet::message::one_line(error.what()) << '\n';
        return 1;
    }
}
