#include "guidelines_measure.h"

#include <algorithm>
#include <memory>

#include "networks/targets.h"
#include "runtime/cli/peak.h"

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;

/// One of the things that take turns.
struct Side {
    std::unique_ptr<BlockRunner> runner;
    double error;               ///< The worst that was found before.
    int runs = 1;               ///< Of a turn.
    std::vector<double> times;  ///< Seconds of every run.
};

/// In turns, so that the noise of a shared machine hits all alike.
void take_turns(std::vector<Side> &sides, const MeasureOptions &options) {
    for (Side &side : sides) {
        side.runner->run();
        side.runs = std::max(1, static_cast<int>(options.turn_seconds / side.runner->run()));
    }
    for (int round = 0; round < options.rounds; ++round) {
        for (Side &side : sides) {
            // The first run of a turn finds the caches as the side before left them.
            side.runner->run();
            for (int i = 0; i < side.runs; ++i) side.times.push_back(side.runner->run());
        }
    }
}

/// What one side took, for the block's repeats together.
Json figures(const Side &side, int64_t flops, int64_t bytes, double peak) {
    const double best = side.runner->fastest();
    const double gflops = 2e-9 * static_cast<double>(flops) * kRepeats / best;
    return {{"min_us", best * 1e6},           {"median_us", median(side.times) * 1e6},
            {"images_per_s", 1 / best},       {"gflops", gflops},
            {"peak_fraction", gflops / peak}, {"kernels", side.runner->calls()},
            {"bytes", bytes * kRepeats},      {"error", side.error}};
}

/// Sum of the convolutions' lower bounds where all are 1x1, as G1 has it; none otherwise.
Json mac_bound(const Block &block) {
    double sum = 0;
    for (const Operation &op : block.operations) {
        if (op.kind != OperationKind::kConv) continue;
        if (op.kernel > 1) return nullptr;
        sum += mac_lower_bound(op.out_size.pixels(), op.flops());
    }
    return sum;
}

/// The convolutions' channels, as "32-44-32".
std::string channels_of(const Block &block) {
    std::string text = std::to_string(block.channels);
    for (const Operation &op : block.operations) {
        if (op.kind == OperationKind::kConv) text += "-" + std::to_string(op.out_channels);
    }
    return text;
}

std::vector<Experiment> rows_of(const TableSpec &table, int width) {
    std::vector<Experiment> rows;
    for (const Experiment &e : experiments()) {
        if (e.table == table.name && e.width == width) rows.push_back(e);
    }
    return rows;
}

/// Whether fused, of each version that a row has.
std::vector<bool> versions(const Experiment &e, const std::string &isa) {
    if (e.fused && fused_is_right(e.block, isa)) return {false, true};
    return {false};
}

Json measure_table(const TableSpec &table, int width, const std::string &isa, const MeasureOptions &options) {
    const std::vector<Experiment> rows = rows_of(table, width);
    std::vector<Side> sides;
    for (const Experiment &e : rows) {
        for (const bool fused : versions(e, isa)) {
            auto runner =
                std::make_unique<BlockRunner>(e.block, guideline_kernels(), isa, fused, kRepeats, options.threads);
            const double error = runner->verify();
            sides.push_back({std::move(runner), error, 1, {}});
        }
    }
    const double peak = fma_peak_gflops(isa, options.threads);
    take_turns(sides, options);

    Json result = {
        {"table", table.name},      {"isa", isa},          {"width", width},       {"threads", options.threads},
        {"rounds", options.rounds}, {"peak_gflops", peak}, {"rows", Json::array()}};
    size_t next = 0;
    for (const Experiment &e : rows) {
        Json row = {{"row", e.row},
                    {"block", e.block.name.view()},
                    {"size", {e.block.size.height, e.block.size.width}},
                    {"channels", channels_of(e.block)},
                    {"flops", e.block.flops()},
                    {"mac", e.block.mac()},
                    {"mac_bound", mac_bound(e.block)}};
        for (const bool fused : versions(e, isa)) {
            const int64_t bytes = fused ? fused_bytes(e.block) : unfused_bytes(e.block);
            row[fused ? "fused" : "unfused"] = figures(sides[next++], e.block.flops(), bytes, peak);
        }
        if (e.paper.arm[0] > 0) row["paper"] = {{"gpu", e.paper.gpu[width]}, {"arm", e.paper.arm[width]}};
        result["rows"].push_back(row);
    }
    return result;
}

}  // namespace

double median(std::vector<double> values) {
    std::ranges::nth_element(values, values.begin() + std::ssize(values) / 2);
    return values[values.size() / 2];
}

std::vector<MeasuredSet> table_sets(int widths, const std::vector<std::string> &isas) {
    std::vector<MeasuredSet> sets;
    for (const std::string &isa : isas) {
        for (const TableSpec &table : kTables) {
            for (int width = 0; width < std::min(widths, table.widths); ++width) {
                sets.push_back({"tables", std::string(table.name) + "/" + isa + "/" + table.width_name(width),
                                [&table, width, isa](const MeasureOptions &options) {
                                    return measure_table(table, width, isa, options);
                                }});
            }
        }
    }
    return sets;
}

}  // namespace shufflenet::bench
