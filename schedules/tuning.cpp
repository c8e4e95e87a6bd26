#include "tuning.h"

#include <array>
#include <charconv>
#include <fstream>
#include <iterator>
#include <map>
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

/// The kernels for so many images and more.
std::map<int, const nlohmann::json *> batches_of(const nlohmann::json &root, const std::string &path) {
    std::map<int, const nlohmann::json *> batches;
    if (!root.contains("batches")) return batches;
    if (!root["batches"].is_object()) {
        throw std::runtime_error(path + ": batches: expected an object, found " + shown(root["batches"]));
    }
    for (const auto &[key, kernels] : root["batches"].items()) {
        const int from = read_batch(key);
        if (from == 0 || !kernels.is_object()) {
            throw std::runtime_error(path + ": batches: expected kernels by a number of images from 2 to " +
                                     std::to_string(kMostImages) + ", found " + shown(key) + ": " + shown(kernels));
        }
        batches[from] = &kernels;
    }
    return batches;
}

/// What a file has for a kernel in runs of `batch` images; nullptr: nothing.
const nlohmann::json *find_numbers(const nlohmann::json &root, const std::string &path, const std::string &kernel,
                                   int batch) {
    const auto found = root["kernels"].find(kernel);
    const nlohmann::json *numbers = found != root["kernels"].end() ? &*found : nullptr;
    for (const auto &[from, kernels] : batches_of(root, path)) {
        if (from <= batch && kernels->contains(kernel)) numbers = &(*kernels)[kernel];
    }
    return numbers;
}

nlohmann::json parse_object(std::string_view json, const std::string &name) {
    nlohmann::json root = nlohmann::json::parse(json, nullptr, false);
    if (!root.is_object() || !root.contains("kernels") || !root["kernels"].is_object()) {
        throw std::runtime_error(name + ": expected a JSON object with an object \"kernels\"");
    }
    return root;
}

}  // namespace

Tuning parse_tuning(std::string_view json, const std::string &name, const std::string &key, int batch) {
    const nlohmann::json root = parse_object(json, name);
    Tuning tuning;
    const nlohmann::json *numbers = find_numbers(root, name, key, batch);
    if (numbers == nullptr) return tuning;
    if (!numbers->is_object()) {
        throw std::runtime_error(name + ": " + key + ": expected an object, found " + shown(*numbers));
    }
    for (const auto &[field_key, value] : numbers->items()) {
        bool known = false;
        for (const Field &field : kFields) {
            if (field_key != field.key) continue;
            tuning.*field.member = read_field(value, name + ": " + key + "." + field_key);
            known = true;
        }
        if (!known) throw std::runtime_error(name + ": " + key + ": unknown key " + shown(field_key));
    }
    return tuning;
}

Tuning read_tuning(const std::string &path, const std::string &key, int batch) {
    if (path.empty()) return {};
    std::ifstream file(path, std::ios::binary);
    const std::string json{std::istreambuf_iterator<char>(file), {}};
    if (!file) throw std::runtime_error(path + ": cannot open the tuned numbers");
    return parse_tuning(json, path, key, batch);
}

std::vector<int> tuned_batches(std::string_view json, const std::string &name) {
    const nlohmann::json root = parse_object(json, name);
    std::vector<int> batches = {1};
    for (const auto &[from, kernels] : batches_of(root, name)) batches.push_back(from);
    return batches;
}

std::string tuning_target(std::string_view json, const std::string &name) {
    const nlohmann::json root = parse_object(json, name);
    const auto target = root.find("target");
    if (target == root.end() || !target->is_string()) {
        throw std::runtime_error(name + ": target: expected a string, found " +
                                 (target == root.end() ? "nothing" : shown(*target)));
    }
    return target->get<std::string>();
}

}  // namespace shufflenet::schedules
