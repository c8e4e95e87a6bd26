#include "tuning_record.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "machine_info.h"
#include "text_file.h"

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
    : path_(fs::path(options.output) / options.target / (options.model + ".json")), resume_(options.resume) {
    if (fs::exists(path_)) {
        root_ = Json::parse(read_text(path_), nullptr, false);
        check();
        const Json same = {options.network, {options.height, options.width}};
        if (Json{root_["network"], root_["input"]} != same) {
            throw std::runtime_error(path_.string() + ": is for " + root_["network"].dump() + " at " +
                                     root_["input"].dump() + ", expected " + same.dump());
        }
    }
    root_["model"] = options.model;
    root_["network"] = options.network;
    root_["target"] = options.target;
    root_["input"] = {options.height, options.width};
    root_["machine"] = options.runner.empty() ? machine_name() : "by " + options.runner;
    if (!root_.contains("kernels")) root_["kernels"] = Json::object();
    if (!root_.contains("microseconds")) root_["microseconds"] = Json::object();
}

void TuningRecord::check() const {
    const auto numbers_only = [](const Json &kernel) {
        return kernel.is_object() && std::ranges::all_of(kernel, [](const Json &n) { return n.is_number_integer(); });
    };
    const auto kernels_only = [&](const Json &kernels) {
        return kernels.is_object() && std::ranges::all_of(kernels, numbers_only);
    };
    const Json none = Json::object();
    const auto batches = root_.is_object() ? root_.value("batches", none) : none;
    if (!root_.is_object() || !root_.contains("kernels") || !kernels_only(root_["kernels"]) || !batches.is_object() ||
        !std::ranges::all_of(batches, kernels_only)) {
        throw std::runtime_error(path_.string() + ": expected a JSON object with \"kernels\": numbers by name");
    }
}

Candidate TuningRecord::numbers(const std::string &kernel, int batch) const {
    if (!resume_) return {};
    const auto pointer = Json::json_pointer("/batches/" + std::to_string(batch) + "/" + kernel);
    if (batch > 0 && root_.contains(pointer)) return root_[pointer].get<Candidate>();
    return root_["kernels"].value(kernel, Candidate{});
}

void TuningRecord::set_device(const std::string &name) {
    if (!name.empty()) root_["device"] = name;
}

void TuningRecord::forget(const std::string &kernel, int batch) {
    if (!root_.contains("batches")) return;
    Json left = Json::object();
    for (const auto &[key, kernels] : root_["batches"].items()) {
        if (batch == 0 || key == std::to_string(batch)) kernels.erase(kernel);
        if (!kernels.empty()) left[key] = kernels;
    }
    root_.erase("batches");
    if (!left.empty()) root_["batches"] = left;
}

void TuningRecord::store(const std::string &kernel, int batch, const std::optional<Candidate> &numbers,
                         const Times &default_times, const Times &times) {
    if (batch > 0 && numbers) {
        root_["batches"][std::to_string(batch)][kernel] = *numbers;
    } else if (batch > 0) {
        forget(kernel, batch);
    } else {
        if (!resume_) forget(kernel, 0);
        root_["kernels"].erase(kernel);
        if (numbers && !numbers->empty()) root_["kernels"][kernel] = *numbers;
    }
    Json &figures = root_["microseconds"][kernel];
    if (batch == 0) figures = {{"default", Json::object()}, {"tuned", Json::object()}};
    figures["default"].update(rounded(default_times));
    figures["tuned"].update(rounded(times));
    fs::create_directories(path_.parent_path());
    write_text(path_, root_.dump(2) + "\n");
}

double TuningRecord::total(const std::vector<Kernel> &kernels, const char *which, const std::string &count) const {
    double sum = 0;
    const Json &figures = root_["microseconds"];
    for (const Kernel &kernel : kernels) {
        if (!figures.contains(kernel.name)) continue;
        sum += kernel.calls * figures[kernel.name][which].value(count, 0.0);
    }
    return sum;
}

}  // namespace shufflenet::bench
