#include "measure.h"

#include <algorithm>
#include <memory>

#include "networks/targets.h"
#include "runtime/cli/peak.h"

namespace shufflenet::bench {

namespace {

using Clock = std::chrono::steady_clock;

/// One of the things that take turns.
struct Side {
    std::unique_ptr<ProgramRunner> runner;
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
Json figures(const Side &side, int64_t flops, double peak) {
    const double best = side.runner->fastest();
    const double gflops = 2e-9 * static_cast<double>(flops) * kRepeats / best;
    return {{"min_us", best * 1e6},           {"median_us", median(side.times) * 1e6},
            {"images_per_s", 1 / best},       {"gflops", gflops},
            {"peak_fraction", gflops / peak}, {"kernels", side.runner->calls()},
            {"bytes", side.runner->bytes()},  {"error", side.runner->error()}};
}

/// Sum of the convolutions' lower bounds where all are 1x1, as G1 has it; none otherwise.
Json mac_bound(const Experiment &e) {
    double sum = 0;
    for (const networks::Layer &layer : e.layers()) {
        if (layer.kind != networks::LayerKind::kConvolution) continue;
        if (!layer.pointwise()) return nullptr;
        sum += networks::mac_lower_bound(layer.out.pixels(), static_cast<double>(layer.flops()));
    }
    return sum;
}

/// The convolutions' channels, as "32-44-32".
std::string channels_of(const Experiment &e) {
    std::string text = std::to_string(e.channels);
    for (const networks::Layer &layer : e.layers()) {
        if (layer.has_weights()) text += "-" + std::to_string(layer.out_channels);
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

/// The versions of a row: unfused, and, where that is fewer kernels, fused.
struct Row {
    const Experiment &experiment;
    std::vector<size_t> sides;  ///< Numbers of its sides.
};

Row open_row(const Experiment &e, const std::string &isa, const MeasureOptions &options, std::vector<Side> *sides) {
    Row row{e, {}};
    const networks::Graph graph = e.graph(kRepeats);
    networks::Program unfused = unfused_program(graph), fused = fused_program(graph);
    const bool fewer = fused.calls.size() < unfused.calls.size();
    const auto open = [&](networks::Program program) {
        row.sides.push_back(sides->size());
        // The first call makes the input.
        sides->push_back({std::make_unique<ProgramRunner>(std::move(program), isa, 1, options.threads), 1, {}});
    };
    open(std::move(unfused));
    if (fewer) open(std::move(fused));
    return row;
}

Json row_json(const Row &row, int width, const std::vector<Side> &sides, double peak) {
    const Experiment &e = row.experiment;
    const networks::Cost cost = e.cost();
    Json json = {{"row", e.row},
                 {"block", e.name},
                 {"size", {e.size.height, e.size.width}},
                 {"channels", channels_of(e)},
                 {"flops", cost.flops},
                 {"mac", cost.mac},
                 {"mac_bound", mac_bound(e)}};
    for (size_t i = 0; i < row.sides.size(); ++i) {
        json[i == 0 ? "unfused" : "fused"] = figures(sides[row.sides[i]], cost.flops, peak);
    }
    if (e.paper.arm[0] > 0) json["paper"] = {{"gpu", e.paper.gpu[width]}, {"arm", e.paper.arm[width]}};
    return json;
}

Json measure_table(const TableSpec &table, int width, const std::string &isa, const MeasureOptions &options) {
    const std::vector<Experiment> experiments = rows_of(table, width);
    std::vector<Side> sides;
    std::vector<Row> rows;
    for (const Experiment &e : experiments) rows.push_back(open_row(e, isa, options, &sides));
    const double peak = fma_peak_gflops(isa, options.threads);
    take_turns(sides, options);
    Json result = {
        {"table", table.name},      {"isa", isa},          {"width", width},       {"threads", options.threads},
        {"rounds", options.rounds}, {"peak_gflops", peak}, {"rows", Json::array()}};
    for (const Row &row : rows) result["rows"].push_back(row_json(row, width, sides, peak));
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
