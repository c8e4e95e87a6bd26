// Reads golden.json: outputs of torchvision's networks for random weights and inputs that a seed reproduces.
// A test runs `random_safetensors(network, classes, seed)` on `random_input(input, 1, seed)` and compares.
#pragma once

#include <array>
#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <ostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "networks/catalog.h"

namespace shufflenet::golden {

/// A feature (stage2, stage3, stage4 or conv5), CHW: statistics of all elements, values of some.
struct Feature {
    std::string name;
    int channels, height, width;
    float min, max, mean, rms;
    std::vector<size_t> indices;
    std::vector<float> values;
};

/// One run of one network.
struct Case {
    std::string name, network;
    Size input;
    int classes;
    uint64_t seed;
    /// checksum() of the state_dict's and the input's floats.
    uint64_t weights_checksum, input_checksum;
    std::vector<Feature> features;
    std::vector<float> logits;

    /// The network, with the features and then the logits as outputs.
    networks::Graph graph() const {
        const std::vector<std::string> outputs = {"stage2", "stage3", "stage4", "conv5", "logits"};
        return networks::published_network(network, input, classes, outputs).value();
    }

    /// How test frameworks name a parameter.
    friend std::ostream &operator<<(std::ostream &out, const Case &c) { return out << c.name; }
};

struct NamedShape {
    std::string name;
    std::vector<int64_t> shape;
};

/// What model.state_dict() lists, in its order, with 1000 classes.
struct StateDict {
    std::string network;
    std::vector<NamedShape> tensors;
};

struct Golden {
    std::vector<StateDict> state_dicts;
    std::vector<Case> cases;
};

namespace detail {

inline Feature feature(const nlohmann::json &j) {
    const auto shape = j.at("shape").get<std::array<int, 3>>();
    return {j.at("name"),
            shape[0],
            shape[1],
            shape[2],
            j.at("min"),
            j.at("max"),
            j.at("mean"),
            j.at("rms"),
            j.at("indices").get<std::vector<size_t>>(),
            j.at("values").get<std::vector<float>>()};
}

inline Case one_case(const nlohmann::json &j) {
    Case c{j.at("name"),
           j.at("network"),
           {j.at("height"), j.at("width")},
           j.at("classes"),
           j.at("seed"),
           j.at("weights_checksum"),
           j.at("input_checksum"),
           {},
           j.at("logits").get<std::vector<float>>()};
    for (const auto &f : j.at("features")) c.features.push_back(feature(f));
    return c;
}

inline StateDict state_dict(const nlohmann::json &j) {
    StateDict s{j.at("network"), {}};
    for (const auto &tensor : j.at("tensors")) {
        s.tensors.push_back({tensor.at(0), tensor.at(1).get<std::vector<int64_t>>()});
    }
    return s;
}

inline Golden read(const std::string &path) {
    std::ifstream file(path);
    if (!file) throw std::runtime_error("cannot read " + path);
    const auto j = nlohmann::json::parse(file);
    Golden golden;
    for (const auto &s : j.at("state_dicts")) golden.state_dicts.push_back(state_dict(s));
    for (const auto &c : j.at("cases")) golden.cases.push_back(one_case(c));
    return golden;
}

}  // namespace detail

/// Reads the file once; throws if it is not there or not what it should be.
inline const Golden &load() {
    static const Golden golden = detail::read(SHUFFLENET_SOURCE_DIR "/tests/golden/golden.json");
    return golden;
}

}  // namespace shufflenet::golden
