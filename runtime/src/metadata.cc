#include "metadata.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <span>

#include "message.h"
#include "networks/bounds.h"
#include "strict_json.h"
#include "utf8.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

constexpr int kMaxResize = 4 * kMaxInput;
constexpr size_t kMaxLabels = kMaxClasses;
constexpr size_t kMaxLabelBytes = 1024;

/// Mean and deviation are of values from 0 to 1; a deviation far from zero keeps the division finite.
constexpr double kMaxStatistic = 1;
constexpr double kMinDeviation = 1e-6;

/// Of ImageNet's photographs, as torchvision normalises them.
constexpr std::array<float, 3> kImageNetMean = {0.485F, 0.456F, 0.406F};
constexpr std::array<float, 3> kImageNetStd = {0.229F, 0.224F, 0.225F};

/// The scale of bytes, on which other programs have them.
constexpr double kByteScale = 255;

constexpr size_t kMaxTextBytes = size_t{16} << 20;
constexpr ExpectedFile kMetadataFile{"metadata in JSON", kMaxTextBytes, {FileKind::kJson, FileKind::kText}};
constexpr ExpectedFile kLabelsFile{"a text with one label a line", kMaxTextBytes, {FileKind::kText}};

constexpr std::array<const char *, 5> kRequiredKeys = {"network", "input", "resize", "mean", "std"};

// The functions below return what is wrong, or nothing.

std::string read_integer(const Json &value, int least, int most, int *out) {
    const auto *positive = value.as<uint64_t>();
    const auto *negative = value.as<int64_t>();
    const bool fits_above = positive != nullptr && *positive <= uint64_t{INT32_MAX};
    const int64_t number = fits_above ? static_cast<int64_t>(*positive) : negative != nullptr ? *negative : INT64_MIN;
    if (number < least || number > most) {
        return "expected an integer from " + std::to_string(least) + " to " + std::to_string(most) + ", found " +
               message::shortened(to_text(value));
    }
    *out = static_cast<int>(number);
    return {};
}

std::string read_network(const Json &value, std::string *out) {
    const auto *name = value.as<std::string>();
    if (name == nullptr) return "expected a string";
    *out = *name;
    return {};
}

std::string read_input(const Json &value, Metadata *out) {
    const auto *sizes = value.as<Json::Array>();
    if (sizes == nullptr || sizes->size() != 2) return "expected [height, width]";
    if (std::string problem = read_integer((*sizes)[0], kMinInput, kMaxInput, &out->height); !problem.empty()) {
        return problem;
    }
    return read_integer((*sizes)[1], kMinInput, kMaxInput, &out->width);
}

std::optional<double> read_number(const Json &value) {
    if (const auto *number = value.as<double>()) return *number;
    if (const auto *number = value.as<uint64_t>()) return static_cast<double>(*number);
    if (const auto *number = value.as<int64_t>()) return static_cast<double>(*number);
    return std::nullopt;
}

std::string short_text(double value) {
    std::array<char, 32> digits{};
    std::snprintf(digits.data(), digits.size(), "%.6g", value);
    return digits.data();
}

std::string read_statistics(const Json &value, double least, std::array<float, 3> *out) {
    const auto *numbers = value.as<Json::Array>();
    if (numbers == nullptr || numbers->size() != out->size()) return "expected three numbers";
    std::array<double, 3> found{};
    bool fits = true, bytes = true;
    for (size_t i = 0; i < found.size(); ++i) {
        const std::optional<double> number = read_number((*numbers)[i]);
        found[i] = number.value_or(0);
        fits = fits && number && found[i] >= least && found[i] <= kMaxStatistic;
        bytes = bytes && number && found[i] >= least && found[i] <= kByteScale;
        (*out)[i] = static_cast<float>(found[i]);
    }
    if (fits) return {};
    std::string problem = "expected numbers from " + short_text(least) + " to " + short_text(kMaxStatistic) +
                          ", found " + message::shortened(to_text(value));
    if (!bytes) return problem;
    problem += "; if they are of values from 0 to 255, divide them by 255:";
    for (const double number : found) problem += " " + short_text(number / kByteScale);
    return problem;
}

std::string check_label(std::string_view label) {
    if (label.size() > kMaxLabelBytes) return "is longer than " + std::to_string(kMaxLabelBytes) + " bytes";
    for (size_t i = 0; i < label.size();) {
        const auto code = static_cast<unsigned char>(label[i]);
        if ((code < 0x20 && code != '\t') || code == 0x7F) return "has a control character";
        const size_t length = utf8_length(label.substr(i));
        if (length == 0) return "is not UTF-8";
        i += length;
    }
    return {};
}

std::string read_label_list(const Json &value, std::vector<std::string> *out) {
    const auto *labels = value.as<Json::Array>();
    if (labels == nullptr) return "expected a list of strings";
    if (labels->size() > kMaxLabels) return "expected at most " + std::to_string(kMaxLabels);
    for (const Json &item : *labels) {
        const std::string which = "label " + std::to_string(out->size());
        const auto *label = item.as<std::string>();
        if (label == nullptr) return which + " is not a string";
        if (std::string problem = check_label(*label); !problem.empty()) return which + " " + problem;
        out->push_back(*label);
    }
    return {};
}

std::string read_key(const std::string &key, const Json &value, Metadata *out) {
    Preprocess &how = out->preprocess;
    if (key == "network") return read_network(value, &out->network);
    if (key == "input") return read_input(value, out);
    if (key == "resize") return read_integer(value, 1, kMaxResize, &how.resize);
    if (key == "mean") return read_statistics(value, 0, &how.mean);
    if (key == "std") return read_statistics(value, kMinDeviation, &how.std);
    return read_label_list(value, &out->labels);
}

/// Tells another kind of JSON from metadata that lack a key.
std::string check_keys(const Json &value) {
    std::string expected, found;
    size_t known = 0;
    for (const char *key : kRequiredKeys) {
        expected += (expected.empty() ? "" : ", ") + std::string(key);
        known += value.find(key) != nullptr ? 1 : 0;
    }
    const auto *object = value.as<Json::Object>();
    if (object == nullptr) {
        const bool array = value.as<Json::Array>() != nullptr;
        return "metadata is not a JSON object: expected one with the keys " + expected + ", found " +
               (array ? "an array" : "a single value");
    }
    if (known > kRequiredKeys.size() / 2) return {};
    for (const auto &[key, ignored] : *object) found += (found.empty() ? "" : ", ") + key;
    return "not metadata of a model: expected the keys " + expected + ", found " +
           (found.empty() ? "none" : message::shortened(found));
}

Status read_lines(std::string_view text, const std::string &name, std::vector<std::string> *out) {
    while (!text.empty()) {
        const size_t end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (std::string problem = check_label(line); !problem.empty()) {
            return message::bad_input(name, "line " + std::to_string(out->size() + 1) + " " + problem);
        }
        if (out->size() == kMaxLabels) {
            return message::bad_input(name, "expected at most " + std::to_string(kMaxLabels) + " lines, found more");
        }
        out->emplace_back(line);
    }
    return {};
}

}  // namespace

Status parse_metadata(std::string_view text, const std::string &name, Metadata *out) try {
    if (Status status = check_kind(std::as_bytes(std::span(text)), name, kMetadataFile); !status.ok()) return status;
    Json object;
    if (Status status = parse_strict_json(without_byte_order_mark(text), name, "metadata", &object); !status.ok()) {
        return status;
    }
    if (std::string problem = check_keys(object); !problem.empty()) return message::bad_input(name, problem);

    Metadata metadata;
    for (const std::string key : {"network", "input", "resize", "mean", "std", "labels"}) {
        const Json *found = object.find(key);
        if (found == nullptr) {
            if (key == "labels") continue;
            return message::bad_input(name, "metadata has no key " + key);
        }
        if (std::string problem = read_key(key, *found, &metadata); !problem.empty()) {
            return message::bad_input(name, key + ": " + problem);
        }
    }
    metadata.preprocess.crop_height = metadata.height;
    metadata.preprocess.crop_width = metadata.width;
    *out = std::move(metadata);
    return {};
} catch (...) {
    return message::from_exception(name);
}

Status read_metadata(const std::string &path, Metadata *out) {
    std::vector<std::byte> bytes;
    if (Status status = read_expected(path, kMetadataFile, &bytes); !status.ok()) return status;
    return parse_metadata({reinterpret_cast<const char *>(bytes.data()), bytes.size()}, path, out);
}

Metadata default_metadata(const std::string &network, int height, int width, int resize) {
    constexpr double kCrop = 224;
    Metadata metadata;
    metadata.network = network;
    metadata.height = height;
    metadata.width = width;
    metadata.preprocess.resize = static_cast<int>(std::lround(std::min(height, width) * resize / kCrop));
    metadata.preprocess.crop_height = height;
    metadata.preprocess.crop_width = width;
    metadata.preprocess.mean = kImageNetMean;
    metadata.preprocess.std = kImageNetStd;
    return metadata;
}

Status parse_labels(std::string_view text, const std::string &name, std::vector<std::string> *labels) try {
    if (Status status = check_kind(std::as_bytes(std::span(text)), name, kLabelsFile); !status.ok()) return status;
    text = without_byte_order_mark(text);
    const size_t last = text.find_last_not_of("\r\n");
    if (last == std::string_view::npos) return message::bad_input(name, "expected one label a line, found none");
    std::vector<std::string> lines;
    if (Status status = read_lines(text.substr(0, last + 1), name, &lines); !status.ok()) return status;
    *labels = std::move(lines);
    return {};
} catch (...) {
    return message::from_exception(name);
}

Status read_labels(const std::string &path, std::vector<std::string> *labels) {
    std::vector<std::byte> bytes;
    if (Status status = read_expected(path, kLabelsFile, &bytes); !status.ok()) return status;
    return parse_labels({reinterpret_cast<const char *>(bytes.data()), bytes.size()}, path, labels);
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
