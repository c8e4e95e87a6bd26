// Whole networks: what their operations take, unfused and fused, and their speed.
#include <algorithm>
#include <memory>

#include "guidelines_measure.h"
#include "networks/decomposition.h"
#include "networks/table8.h"
#include "workload.h"

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;

/// Turns of a whole network for one of an experiment's block: hardly any run as long as a network's is undisturbed
/// where others use the processor too, and a difference of two needs two of them.
constexpr int kNetworkTurns = 4, kDifferenceTurns = 12;

/// The blocks of a network, each ready to run.
struct Piece {
    std::unique_ptr<BlockRunner> runner;
    int count;
};

/// A model, ready to run, and the seconds of its runs.
struct Runner {
    std::string name;
    std::unique_ptr<Workload> workload;
    Model model;
    std::vector<float> logits;
    std::vector<double> times;

    void run() {
        const auto start = Clock::now();
        if (const Status s = model.run(workload->input(), 1, logits); !s.ok()) throw std::runtime_error(s.message());
        times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    double fastest() const { return std::ranges::min(times); }
};

Runner open_model(const shufflenet_descriptor &descriptor, const MeasureOptions &options) {
    auto workload = std::make_unique<Workload>(descriptor, 1);
    Model model = workload->open(options.threads);
    std::vector<float> logits(model.classes());
    return {descriptor.name, std::move(workload), std::move(model), std::move(logits), {}};
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

/// A kernel for each operation: every kernel's fastest call, summed up by parts.
Json measure_unfused(std::string_view name, const std::string &isa, const MeasureOptions &options) {
    std::vector<Piece> pieces;
    for (const auto &[block, count] : network_blocks(*find_any_network(name))) {
        auto runner = std::make_unique<BlockRunner>(block, guideline_kernels(), isa, false, 1, options.threads);
        runner->verify();
        pieces.push_back({std::move(runner), count});
    }
    for (int round = 0; round < kNetworkTurns * options.rounds; ++round) {
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
    return {{"kernels", kernels}, {"total_us", total}, {"us", us}};
}

/// As the library runs it. A part is what a run gets faster where the kernels are compiled without that work; conv is
/// what is left of the whole.
Json measure_fused(std::string_view name, const MeasureOptions &options) {
    const std::string prefix = std::string(name) + "_without_";
    std::vector<Runner> sides;
    for (const shufflenet_descriptor *descriptor : guideline_models()) {
        if (descriptor->name == name || std::string_view(descriptor->name).starts_with(prefix)) {
            sides.push_back(open_model(*descriptor, options));
        }
    }
    sides.front().workload->verify(sides.front().model);
    take_turns(sides, kDifferenceTurns * options.rounds, options);
    const double total = sides.front().fastest() * 1e6;
    Json us;
    for (const std::string_view part : kTimeParts) us[std::string(part)] = nullptr;
    us["data_movement"] = 0;
    double conv = total;
    for (const Runner &side : sides) {
        if (side.name == name) continue;
        const double part = total - side.fastest() * 1e6;
        us[side.name.substr(prefix.size())] = part;
        conv -= part;
    }
    us["conv"] = conv;
    return {{"total_us", total}, {"us", us}};
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
    for (const std::string_view name : kDecomposed) {
        sets.push_back(
            {"decomposition", "decomposition/" + std::string(name), [name, isa](const MeasureOptions &options) {
                 return Json{{"network", name},
                             {"isa", isa},
                             {"threads", options.threads},
                             {"unfused", measure_unfused(name, isa, options)},
                             {"fused", measure_fused(name, options)}};
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
            const std::optional<AnyNetwork> network = find_any_network(descriptor->name);
            if (!network) continue;
            const auto mflops =
                total_cost(*network, {network->crop(), network->crop()}, kDefaultClasses).flops / 1'000'000;
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
