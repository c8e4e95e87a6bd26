#include "tuning.h"

#include <array>
#include <charconv>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "networks/devices.h"

namespace shufflenet::schedules {

namespace {

struct Field {
    const char *key;
    int Tuning::*member;
};

constexpr std::array kFields = {
    Field{"tile_pixels", &Tuning::tile_pixels},
    Field{"tile_vectors", &Tuning::tile_vectors},
    Field{"tail_pixels", &Tuning::tail_pixels},
    Field{"order", &Tuning::order},
    Field{"block_rows", &Tuning::block_rows},
    Field{"strip_rows", &Tuning::strip_rows},
    Field{"depthwise_columns", &Tuning::depthwise_columns},
};

// One line of bounded length, whatever a file has there.
std::string shown(const nlohmann::json &value) {
    constexpr size_t kLongest = 120;
    const std::string ascii = value.dump(-1, ' ', true);
    return ascii.size() <= kLongest ? ascii : ascii.substr(0, kLongest) + "...";
}

int read_field(const nlohmann::json &value, const std::string &where) {
    if (!value.is_number_integer() || value < 0 || value > 1 << 20) {
        throw std::runtime_error(where + ": expected an integer from 0 to 1048576, found " + shown(value));
    }
    return value.get<int>();
}

/// A key of `batches`; 0: it is none.
int read_batch(const std::string &key) {
    int batch = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), batch);
    const bool whole = error == std::errc() && end == key.data() + key.size() && key[0] != '0';
    return whole && batch >= 2 && batch <= kMostImages ? batch : 0;
}

/// What a file has for a kernel in runs of `batch` images; nullptr: nothing.
const nlohmann::json *find_numbers(const nlohmann::json &root, const std::string &path, const std::string &kernel,
                                   int batch) {
    const auto found = root["kernels"].find(kernel);
    const nlohmann::json *numbers = found != root["kernels"].end() ? &*found : nullptr;
    if (!root.contains("batches")) return numbers;
    if (!root["batches"].is_object()) {
        throw std::runtime_error(path + ": batches: expected an object, found " + shown(root["batches"]));
    }
    int best = 1;
    for (const auto &[key, kernels] : root["batches"].items()) {
        const int from = read_batch(key);
        if (from == 0 || !kernels.is_object()) {
            throw std::runtime_error(path + ": batches: expected kernels by a number of images from 2 to " +
                                     std::to_string(kMostImages) + ", found " + shown(key) + ": " + shown(kernels));
        }
        if (from > batch || from <= best || !kernels.contains(kernel)) continue;
        best = from;
        numbers = &kernels[kernel];
    }
    return numbers;
}

}  // namespace

Tuning read_tuning(const std::string &path, const std::string &kernel, int batch) {
    Tuning tuning;
    if (path.empty()) return tuning;
    std::ifstream file(path);
    if (!file) throw std::runtime_error(path + ": cannot open the tuned numbers");
    const nlohmann::json root = nlohmann::json::parse(file, nullptr, false);
    if (!root.is_object() || !root.contains("kernels") || !root["kernels"].is_object()) {
        throw std::runtime_error(path + ": expected a JSON object with an object \"kernels\"");
    }
    const nlohmann::json *numbers = find_numbers(root, path, kernel, batch);
    if (numbers == nullptr) return tuning;
    for (const auto &[key, value] : numbers->items()) {
        bool known = false;
        for (const Field &field : kFields) {
            if (key != field.key) continue;
            tuning.*field.member = read_field(value, path + ": " + kernel + "." + key);
            known = true;
        }
        if (!known) throw std::runtime_error(path + ": " + kernel + ": unknown key " + shown(key));
    }
    return tuning;
}

}  // namespace shufflenet::schedules
