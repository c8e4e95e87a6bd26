#include "trials.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "bench/common/text_file.h"
#include "networks/graph_text.h"

namespace shufflenet::bench {

using Json = nlohmann::json;

namespace {

// Half of the tests' tolerance for a whole network: a single kernel's error is much smaller, a wrong one's much larger.
constexpr double kTolerance = 5e-6;
constexpr double kTrialSeconds = 120;

/// Puts the answer's figures into the versions, and leaves out those that compute something else.
std::vector<Version> judged(std::vector<Version> versions, const Json &answer) {
    std::vector<Version> good;
    for (size_t i = 0; i < versions.size(); ++i) {
        const Json &trial = answer.at("trials").at(i);
        Version &version = versions[i];
        double logarithms = 0;
        for (const auto &[count, times] : trial.at("microseconds").items()) {
            version.times[count] = times.at("fast");
            logarithms += std::log(version.times[count] / versions[0].times[count]);
        }
        version.relative = std::exp(logarithms / static_cast<double>(version.times.size()));
        if (trial.at("error") <= kTolerance) {
            good.push_back(version);
        } else if (i == 0) {
            throw std::runtime_error("the starting schedule computes something else: error " +
                                     trial.at("error").dump());
        }
    }
    return good;
}

}  // namespace

TuningTrials::TuningTrials(const TuningOptions &options, const networks::Graph &graph,
                           const std::filesystem::path &program)
    : options_(options), graph_(graph_to_text(graph)) {
    if (options.runner.empty()) {
        command_ = {program.string()};
    } else {
        command_ = {"sh", "-c", options.runner + " " + program.string()};
    }
}

std::vector<Version> TuningTrials::run(const TunedKernel &kernel, const Version &oracle, std::vector<Version> versions,
                                       double milliseconds) {
    const ChildResult child = ask(kernel, oracle, versions, milliseconds);
    if (child.ok) {
        const Json answer = Json::parse(child.output, nullptr, false);
        if (!answer.is_discarded()) return judged(std::move(versions), answer);
    }
    failure_ = child.ok ? "the timing program's answer is not JSON" : child.failure;
    if (interrupted() || versions.size() <= 2) return {};
    // One of them crashed or hung: each on its own beside the first.
    std::vector<Version> good;
    for (size_t i = 1; i < versions.size() && !interrupted(); ++i) {
        const std::vector<Version> pair = run(kernel, oracle, {versions[0], versions[i]}, milliseconds);
        if (pair.size() < 2) continue;
        if (good.empty()) good.push_back(pair[0]);
        good.push_back(pair[1]);
    }
    return good;
}

ChildResult TuningTrials::ask(const TunedKernel &kernel, const Version &oracle, const std::vector<Version> &versions,
                              double milliseconds) {
    Json objects = Json::array();
    std::string bytes;
    const auto append = [&](const Version &version) {
        const std::string object = read_text(version.object);
        objects.push_back({{"bytes", object.size()}, {"lanes", version.lanes}});
        bytes += object;
    };
    append(oracle);
    for (const Version &version : versions) append(version);
    const Json request = {{"graph", graph_},
                          {"kernel", kernel.number},
                          {"target", options_.target.name},
                          {"threads", options_.threads},
                          {"milliseconds", milliseconds * static_cast<double>(versions.size())},
                          {"symbol", kKernelSymbol},
                          {"objects", objects}};
    return run_child(command_, request.dump() + "\n" + bytes, kTrialSeconds);
}

}  // namespace shufflenet::bench
