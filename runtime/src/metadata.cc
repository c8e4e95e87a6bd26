#include "metadata.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "file.h"
#include "message.h"
#include "strict_json.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

constexpr int kMaxResize = 4 * kMaxInput;
constexpr size_t kMaxLabels = kMaxClasses;
constexpr size_t kMaxLabelBytes = 1024;

/// Statistics of values in [0, 1] are far within this; a deviation far from zero keeps the division finite.
constexpr double kMaxStatistic = 1000;
constexpr double kMinDeviation = 1e-6;

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
    if (!find_any_network(*name)) {
        std::string known;
        for (const AnyNetwork &n : published_networks()) known += (known.empty() ? "" : ", ") + std::string(n.name());
        return "expected one of " + known + ", found " + message::shortened(*name);
    }
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

std::string read_statistics(const Json &value, double least, std::array<float, 3> *out) {
    const auto *numbers = value.as<Json::Array>();
    if (numbers == nullptr || numbers->size() != out->size()) return "expected three numbers";
    for (size_t i = 0; i < out->size(); ++i) {
        const std::optional<double> number = read_number((*numbers)[i]);
        if (!number || *number < least || *number > kMaxStatistic) {
            return "expected numbers from " + to_text({least}) + " to " + to_text({kMaxStatistic}) + ", found " +
                   message::shortened(to_text((*numbers)[i]));
        }
        (*out)[i] = static_cast<float>(*number);
    }
    return {};
}

/// Length of the UTF-8 sequence that starts at text[0]; 0: not UTF-8 (RFC 3629).
size_t utf8_length(std::string_view text) {
    const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
    const auto continues = [&](size_t i) { return (byte(i) & 0xC0U) == 0x80; };
    const unsigned lead = byte(0);
    if (lead < 0x80) return 1;
    if (lead < 0xC2 || lead > 0xF4 || !continues(1)) return 0;
    if (lead < 0xE0) return 2;
    if (!continues(2)) return 0;
    const unsigned second = byte(1);
    const bool overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
    const bool surrogate = lead == 0xED && second >= 0xA0;
    const bool beyond_unicode = lead == 0xF4 && second >= 0x90;
    if (overlong || surrogate || beyond_unicode) return 0;
    if (lead < 0xF0) return 3;
    return continues(3) ? 4 : 0;
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
    if (key == "mean") return read_statistics(value, -kMaxStatistic, &how.mean);
    if (key == "std") return read_statistics(value, kMinDeviation, &how.std);
    return read_label_list(value, &out->labels);
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
    Json object;
    if (Status status = parse_strict_json(text, name, "metadata", &object); !status.ok()) return status;
    if (object.as<Json::Object>() == nullptr) return message::bad_input(name, "metadata is not a JSON object");

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

Metadata default_metadata(const AnyNetwork &network, Size input) {
    const int short_side = std::min(input.height, input.width);
    Metadata metadata;
    metadata.network = network.name();
    metadata.height = input.height;
    metadata.width = input.width;
    metadata.preprocess.resize = static_cast<int>(std::lround(double(short_side) * network.resize() / kDefaultCrop));
    metadata.preprocess.crop_height = input.height;
    metadata.preprocess.crop_width = input.width;
    metadata.preprocess.mean = kImageNetMean;
    metadata.preprocess.std = kImageNetStd;
    return metadata;
}

Status parse_labels(std::string_view text, const std::string &name, std::vector<std::string> *labels) try {
    constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
    if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
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
    if (Status status = read_file(path, &bytes); !status.ok()) return status;
    return parse_labels({reinterpret_cast<const char *>(bytes.data()), bytes.size()}, path, labels);
}

}  // namespace shufflenet
