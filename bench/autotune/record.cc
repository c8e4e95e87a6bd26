#include "record.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "bench/common/machine_info.h"
#include "bench/common/text_file.h"

namespace shufflenet::bench {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

Json rounded(const Times &times) {
    Json result = Json::object();
    for (const auto &[count, time] : times) result[count] = std::round(time * 10) / 10;
    return result;
}

}  // namespace

TuningRecord::TuningRecord(const TuningOptions &options)
    : path_(fs::path(options.output) / (std::string(options.target.name) + ".json")),
      resume_(options.resume),
      machine_(options.runner.empty() ? machine_name() : "by " + options.runner) {
    if (fs::exists(path_)) {
        root_ = Json::parse(read_text(path_), nullptr, false);
        check();
        if (root_.value("target", "") != options.target.name) {
            throw std::runtime_error(path_.string() + ": is not for " + std::string(options.target.name));
        }
    }
    root_["target"] = options.target.name;
    for (const char *key : {"kernels", "measured"}) {
        if (!root_.contains(key)) root_[key] = Json::object();
    }
}

void TuningRecord::check() const {
    const auto numbers_only = [](const Json &kernel) {
        return kernel.is_object() && std::ranges::all_of(kernel, [](const Json &n) { return n.is_number_integer(); });
    };
    const bool good = root_.is_object() && root_.contains("kernels") && root_["kernels"].is_object() &&
                      std::ranges::all_of(root_["kernels"], numbers_only) && root_.contains("target") &&
                      root_["target"].is_string() && root_.value("measured", Json::object()).is_object();
    if (!good) {
        throw std::runtime_error(path_.string() +
                                 R"(: expected a JSON object with "target" and "kernels": numbers by name)");
    }
}

Candidate TuningRecord::numbers(const std::string &key) const {
    return resume_ ? root_["kernels"].value(key, Candidate{}) : Candidate{};
}

void TuningRecord::store(const std::string &key, const Candidate &numbers, const Times &default_times,
                         const Times &times) {
    root_["kernels"].erase(key);
    if (!numbers.empty()) root_["kernels"][key] = numbers;
    root_["measured"][key] = {
        {"machine", machine_}, {"default_us", rounded(default_times)}, {"tuned_us", rounded(times)}};
    fs::create_directories(path_.parent_path());
    write_text(path_, root_.dump(1) + "\n");
}

double TuningRecord::total(const std::vector<TunedKernel> &kernels, const char *which, const std::string &count) const {
    double sum = 0;
    const Json &measured = root_["measured"];
    for (const TunedKernel &kernel : kernels) {
        if (!measured.contains(kernel.key)) continue;
        sum += kernel.calls * measured[kernel.key][std::string(which) + "_us"].value(count, 0.0);
    }
    return sum;
}

}  // namespace shufflenet::bench
