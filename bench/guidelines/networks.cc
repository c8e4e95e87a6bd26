// Whole networks: what their layers take, unfused; and their speed as the library runs them.
#include <algorithm>
#include <memory>

#include "measure.h"
#include "networks/graph_text.h"
#include "table8.h"

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;

/// Turns of a whole network for one of an experiment's block: hardly any run as long as a network's is undisturbed
/// where others use the processor too.
constexpr int kNetworkTurns = 4;

/// A model, ready to run, and the seconds of its runs.
struct Runner {
    std::string name;
    std::unique_ptr<Workload> workload;
    Model model;
    std::unique_ptr<Outputs> outputs;
    std::vector<double> times;

    void run() {
        const auto start = Clock::now();
        check(model.run(workload->input(1), 1, outputs->requests()));
        times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    double fastest() const { return std::ranges::min(times); }
};

Runner open_model(const shufflenet_descriptor &descriptor, const MeasureOptions &options) {
    auto workload = std::make_unique<Workload>(descriptor, 1);
    Model model = workload->open(options.threads);
    auto outputs = std::make_unique<Outputs>(model.outputs(), 1);
    return {descriptor.name, std::move(workload), std::move(model), std::move(outputs), {}};
}

void take_turns(std::vector<Runner> &sides, int rounds, const MeasureOptions &options) {
    std::vector<int> runs;
    for (Runner &side : sides) {
        for (int i = 0; i < 2; ++i) side.run();
        runs.push_back(std::max(1, static_cast<int>(options.turn_seconds / side.fastest())));
        side.times.clear();
    }
    for (int round = 0; round < rounds; ++round) {
        for (size_t i = 0; i < sides.size(); ++i) {
            // The first run of a turn finds the caches as the side before left them.
            for (int k = 0; k <= runs[i]; ++k) sides[i].run();
        }
    }
}

/// A kernel for each layer: every call's fastest run, summed up by parts.
Json measure_unfused(const std::string &name, const std::string &isa, const MeasureOptions &options) {
    ProgramRunner runner(unfused_program(framework_network(name)), isa, 0, options.threads);
    for (int round = 0; round < kNetworkTurns * options.rounds; ++round) runner.run();
    const auto parts = runner.fastest_parts();
    Json us;
    for (size_t i = 0; i < parts.size(); ++i) us[std::string(kTimeParts[i])] = parts[i] * 1e6;
    return {{"kernels", runner.calls()}, {"total_us", runner.fastest() * 1e6}, {"us", us}};
}

/// As the library runs it: a kernel is several layers, whose parts have no time of their own.
Json measure_fused(const std::string &name, const std::string &isa, const MeasureOptions &options) {
    ProgramRunner runner(fused_program(framework_network(name)), isa, 0, options.threads);
    for (int round = 0; round < kNetworkTurns * options.rounds; ++round) runner.run();
    return {{"kernels", runner.calls()}, {"total_us", runner.fastest() * 1e6}};
}

/// Networks that Table 8 has side by side, by the most millions of multiply-adds.
constexpr std::array<std::pair<const char *, int>, 4> kComplexities = {
    {{"40 MFLOPs", 60}, {"140 MFLOPs", 200}, {"300 MFLOPs", 400}, {"500 MFLOPs", 700}}};

Json measure_networks(const std::vector<const shufflenet_descriptor *> &models, const MeasureOptions &options) {
    std::vector<Runner> sides;
    for (const shufflenet_descriptor *descriptor : models) {
        sides.push_back(open_model(*descriptor, options));
        sides.back().workload->verify(sides.back().model);
    }
    take_turns(sides, kNetworkTurns * options.rounds, options);
    Json networks = Json::array();
    for (const Runner &side : sides) {
        Json row = {{"network", side.name},
                    {"flops", static_cast<int64_t>(side.workload->flops()) / 2},
                    {"min_us", side.fastest() * 1e6},
                    {"median_us", median(side.times) * 1e6}};
        if (const Table8Row *paper = find_table8(side.name); paper != nullptr) {
            row["paper"] = {
                {"mflops", paper->mflops}, {"error", paper->error}, {"gpu", paper->gpu}, {"arm", paper->arm}};
        }
        networks.push_back(row);
    }
    return {{"isa", sides.front().model.isa()}, {"threads", options.threads}, {"networks", networks}};
}

}  // namespace

std::vector<MeasuredSet> decomposition_sets(const std::string &isa) {
    std::vector<MeasuredSet> sets;
    if (guideline_models().empty()) return sets;
    for (const std::string name : kDecomposed) {
        sets.push_back({"decomposition", "decomposition/" + name, [name, isa](const MeasureOptions &options) {
                            return Json{{"network", name},
                                        {"isa", isa},
                                        {"threads", options.threads},
                                        {"unfused", measure_unfused(name, isa, options)},
                                        {"fused", measure_fused(name, isa, options)}};
                        }});
    }
    return sets;
}

std::vector<MeasuredSet> network_sets() {
    std::vector<MeasuredSet> sets;
    int least = 0;
    for (const auto &[name, most] : kComplexities) {
        std::vector<const shufflenet_descriptor *> models;
        for (const shufflenet_descriptor *descriptor : guideline_models()) {
            const networks::Graph graph = networks::graph_from_text(descriptor->program->graph);
            const int64_t mflops = total_cost(graph).flops / 1'000'000;
            if (mflops > least && mflops <= most) models.push_back(descriptor);
        }
        least = most;
        if (models.empty()) continue;
        sets.push_back({"networks", std::string("networks/") + name,
                        [models](const MeasureOptions &options) { return measure_networks(models, options); }});
    }
    return sets;
}

}  // namespace shufflenet::bench
