// Whole networks: their operations one by one, and their speed.
#include <algorithm>
#include <filesystem>
#include <memory>

#include "child_process.h"
#include "guidelines_measure.h"
#include "networks/decomposition.h"
#include "networks/table8.h"

namespace shufflenet::bench {

namespace {

/// The blocks of a network, each ready to run.
struct Piece {
    std::unique_ptr<BlockRunner> runner;
    int count;
};

/// Every kernel's fastest call, summed up by parts.
Json measure_decomposition(std::string_view name, const std::string &isa, const MeasureOptions &options) {
    std::vector<Piece> pieces;
    for (const auto &[block, count] : network_blocks(*find_any_network(name))) {
        auto runner = std::make_unique<BlockRunner>(block, decomposition_kernels(), isa, false, 1, options.threads);
        runner->verify();
        pieces.push_back({std::move(runner), count});
    }
    for (int round = 0; round < 2 * options.rounds; ++round) {
        for (Piece &piece : pieces) piece.runner->run();
    }
    std::array<double, kTimeParts.size()> parts{};
    size_t kernels = 0;
    for (const Piece &piece : pieces) {
        const auto fastest = piece.runner->fastest_parts();
        for (size_t i = 0; i < parts.size(); ++i) parts[i] += piece.count * fastest[i];
        kernels += piece.count * piece.runner->calls();
    }
    Json us;
    double total = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
        us[std::string(kTimeParts[i])] = parts[i] * 1e6;
        total += parts[i] * 1e6;
    }
    return {{"network", name},    {"isa", isa}, {"threads", options.threads},
            {"kernels", kernels}, {"us", us},   {"total_us", total}};
}

Json measure_networks(const std::string &program, const MeasureOptions &options) {
    const std::string threads = "/batch:1/threads:" + std::to_string(options.threads);
    const ChildResult child = run_child({program, "--benchmark_filter=network/.*" + threads + "(/|$)",
                                         "--benchmark_format=json", "--benchmark_repetitions=5"},
                                        "", 900);
    if (!child.ok) throw std::runtime_error(program + ": " + child.failure);
    const Json output = Json::parse(child.output, nullptr, false);
    if (!output.is_object() || !output.contains("benchmarks"))
        throw std::runtime_error(program + ": no JSON of benchmarks");
    Json networks = Json::array();
    for (const Json &run : output.at("benchmarks")) {
        if (run.at("run_type") != "iteration") continue;
        const std::string full = run.at("name");
        const size_t begin = full.find('/') + 1;
        const std::string name = full.substr(begin, full.find('/', begin) - begin);
        const std::optional<AnyNetwork> network = find_any_network(name);
        if (!network) continue;
        const std::string unit = run.at("time_unit");
        const double us = run.at("real_time").get<double>() * (unit == "ms" ? 1e3 : unit == "us" ? 1 : 1e-3);
        if (!networks.empty() && networks.back().at("network") == name) {
            networks.back()["min_us"] = std::min(networks.back().at("min_us").get<double>(), us);
            continue;
        }
        const Size input{network->crop(), network->crop()};
        Json row = {{"network", name}, {"flops", total_cost(*network, input, kDefaultClasses).flops}, {"min_us", us}};
        if (const Table8Row *paper = find_table8(name); paper != nullptr) {
            row["paper"] = {
                {"mflops", paper->mflops}, {"error", paper->error}, {"gpu", paper->gpu}, {"arm", paper->arm}};
        }
        networks.push_back(row);
    }
    return {{"threads", options.threads}, {"networks", networks}};
}

}  // namespace

std::vector<MeasuredSet> decomposition_sets(const std::vector<std::string> &isas) {
    std::vector<MeasuredSet> sets;
    for (const std::string &isa : isas) {
        const bool compiled =
            std::ranges::any_of(decomposition_kernels(), [&](const BlockKernel &k) { return k.isa == isa; });
        if (!compiled) continue;
        for (const std::string_view name : kDecomposed) {
            sets.push_back(
                {"decomposition", "decomposition/" + std::string(name) + "/" + isa,
                 [name, isa](const MeasureOptions &options) { return measure_decomposition(name, isa, options); }});
        }
    }
    return sets;
}

std::vector<MeasuredSet> network_sets(const std::string &bench_network) {
    if (!std::filesystem::exists(bench_network)) return {};
    return {{"networks", "networks",
             [bench_network](const MeasureOptions &options) { return measure_networks(bench_network, options); }}};
}

}  // namespace shufflenet::bench
