#include "report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>

#include "runtime/cli/terminal.h"

namespace shufflenet::bench {

namespace {

using cli::fixed;
using cli::grouped;

/// A guideline holds where the row that it recommends is the fastest, and this much faster than the slowest.
constexpr double kHoldsBy = 0.05;

/// A row is as fast as another one within this: the noise that is left of a minimum of many turns.
constexpr double kNoise = 0.02;

/// What figures 1 and 2 are for.
constexpr const char *kDecompositionClaim = "FLOPs do not see element-wise operations, data movement and pools";
constexpr const char *kNetworksClaim = "networks of about the same FLOPs differ in speed";

const TableSpec &table_named(const std::string &name) { return *std::ranges::find(kTables, name, &TableSpec::name); }

/// The sets of one table and instruction set, by width.
using Sets = std::vector<const Json *>;

std::map<std::pair<std::string, std::string>, Sets> sets_of(const Json &result) {
    std::map<std::pair<std::string, std::string>, Sets> sets;
    for (const Json &set : result.at("tables")) sets[{set.at("table"), set.at("isa")}].push_back(&set);
    for (auto &[key, list] : sets) {
        std::ranges::sort(list, {}, [](const Json *set) { return set->at("width").get<int>(); });
    }
    return sets;
}

bool has_fused(const Sets &sets) {
    return std::ranges::any_of(sets.front()->at("rows"), [](const Json &row) { return row.contains("fused"); });
}

/// A row in a version; one without a fused kernel is a single convolution, which is the same in both.
const Json &in_version(const Json &row, const std::string &version) {
    return row.at(row.contains(version) ? version : "unfused");
}

/// Whether a row says anything in a version: a unit is several operations, so that without a fused kernel it does not.
bool has_version(const TableSpec &table, const Json &row, const std::string &version) {
    return row.contains(version) || table.equal_flops();
}

/// The row that row `i` of a set is compared with.
size_t baseline_of(const TableSpec &table, const Json &rows, size_t i) {
    if (table.best_row.empty()) return i % 2 == 0 ? i + 1 : i;  // Pairs: a cell, and one convolution.
    for (size_t k = 0; k < rows.size(); ++k) {
        if (rows[k].at("row") == table.best_row) return k;
    }
    throw std::runtime_error("no row " + std::string(table.best_row));
}

/// How many times slower a row is than the one that it is compared with, at equal FLOPs.
double slowdown(const TableSpec &table, const Json &rows, size_t i, const std::string &version) {
    const Json &row = in_version(rows[i], version);
    const Json &base = in_version(rows[baseline_of(table, rows, i)], version);
    if (!table.equal_flops()) return row.at("min_us").get<double>() / base.at("min_us").get<double>();
    return base.at("gflops").get<double>() / row.at("gflops").get<double>();
}

/// The same of the paper's figures, at its own FLOPs; 0: it has none.
double paper_slowdown(const TableSpec &table, const Json &rows, size_t i, const char *machine) {
    if (!rows[i].contains("paper")) return 0;
    const Json &base = rows[baseline_of(table, rows, i)];
    return base.at("paper").at(machine).get<double>() / rows[i].at("paper").at(machine).get<double>();
}

std::string width_name(const Json &set) { return table_named(set.at("table")).width_name(set.at("width").get<int>()); }

std::string join(const std::vector<std::string> &parts) {
    std::string text;
    for (const std::string &part : parts) text += (text.empty() ? "" : ", ") + part;
    return text;
}

std::vector<std::string> two_digits(const std::vector<double> &values) {
    std::vector<std::string> text;
    for (const double value : values) text.push_back(fixed(value, 2));
    return text;
}

/// The slowest row of each width: how slow, and the paper's same row.
struct Worst {
    std::vector<std::string> holds_at, rows;
    std::vector<double> slowdown, arm, gpu;
};

Worst worst_of(const TableSpec &table, const Sets &sets, const std::string &version) {
    Worst worst;
    for (const Json *set : sets) {
        const Json &rows = set->at("rows");
        size_t slowest = 0;
        double most = 0, least = 1e30;
        for (size_t i = 0; i < rows.size(); ++i) {
            if (baseline_of(table, rows, i) == i || !has_version(table, rows[i], version)) continue;
            const double slow = slowdown(table, rows, i, version);
            least = std::min(least, slow);
            if (slow > most) {
                most = slow;
                slowest = i;
            }
        }
        if (most > 1 + kHoldsBy && least > 1 - kNoise) worst.holds_at.push_back(width_name(*set));
        worst.rows.push_back(rows[slowest].at("row"));
        worst.slowdown.push_back(most);
        worst.arm.push_back(paper_slowdown(table, rows, slowest, "arm"));
        worst.gpu.push_back(paper_slowdown(table, rows, slowest, "gpu"));
    }
    return worst;
}

std::string times_of(const std::vector<std::string> &rows, const std::vector<double> &slowdown, const Sets &sets) {
    std::vector<std::string> parts;
    for (size_t i = 0; i < rows.size(); ++i) {
        const std::string where = sets.size() > 1 ? " (" + width_name(*sets[i]) + ")" : "";
        parts.push_back(rows[i] + " " + fixed(slowdown[i], 2) + where);
    }
    return join(parts);
}

std::string verdict_text(const TableSpec &table, const Sets &sets, const Worst &worst) {
    std::string text = worst.holds_at.empty()                 ? "does not hold here"
                       : worst.holds_at.size() == sets.size() ? "holds here"
                                                              : "holds here at " + join(worst.holds_at) + " only";
    text += ": times as long as " + std::string(table.best_row) + (table.equal_flops() ? " at equal FLOPs" : "") +
            ", the slowest row of each width: " + times_of(worst.rows, worst.slowdown, sets);
    if (worst.arm.front() > 0) {
        text += "; in the paper the same rows " + join(two_digits(worst.arm)) + " (ARM), " +
                join(two_digits(worst.gpu)) + " (GPU)";
    }
    return text;
}

/// Cells are compared one by one, each with a convolution of its own FLOPs.
Json cells_verdict(const TableSpec &table, const Sets &sets, const std::string &version) {
    const Json &rows = sets.front()->at("rows");
    std::vector<std::string> holds_at, names;
    std::vector<double> times;
    for (size_t i = 0; i < rows.size(); i += 2) {
        names.push_back(rows[i].at("row"));
        times.push_back(slowdown(table, rows, i, version));
        if (times.back() > 1 + kHoldsBy) holds_at.push_back(names.back());
    }
    return {{"holds_at", holds_at},
            {"slowest", names},
            {"slowdown", times},
            {"text", (holds_at.empty() ? "does not hold here" : "holds here for " + join(holds_at)) +
                         ": times as long as one 1x1 convolution of the same FLOPs: " + times_of(names, times, sets)}};
}

/// How much of what a row loses fusing gives back: 1 - (fused slowdown - 1) / (unfused slowdown - 1).
Json removed_by_fusing(const TableSpec &table, const Sets &sets) {
    Json rows = Json::array();
    for (const Json *set : sets) {
        const Json &all = set->at("rows");
        for (size_t i = 0; i < all.size(); ++i) {
            if (baseline_of(table, all, i) == i) continue;
            const double unfused = slowdown(table, all, i, "unfused") - 1, fused = slowdown(table, all, i, "fused") - 1;
            Json row = {{"row", all[i].at("row")}, {"width", set->at("width")}, {"unfused", unfused}, {"fused", fused}};
            // Where nothing is lost to begin with, there is nothing to give back.
            row["removed"] = unfused > kNoise ? Json(1 - fused / unfused) : Json(nullptr);
            rows.push_back(row);
        }
    }
    return rows;
}

void add_fusing_table(std::ostream &out, const TableSpec &table, const Json &rows) {
    out << "\nWhat a row takes longer than the row that it is compared with, a kernel for each operation and fused, "
           "and how "
           "much of it fusing removes:\n\n| row | width | unfused | fused | removed |\n|---|--:|--:|--:|--:|\n";
    for (const Json &row : rows) {
        out << "| " << row.at("row").get<std::string>() << " | " << table.width_name(row.at("width").get<int>())
            << " | " << fixed(100 * row.at("unfused").get<double>(), 0) << " % | "
            << fixed(100 * row.at("fused").get<double>(), 0) << " % | "
            << (row.at("removed").is_null() ? "-" : fixed(100 * row.at("removed").get<double>(), 0) + " %") << " |\n";
    }
}

std::string cells_of(const Json &figures, double slow) {
    const double gbs = figures.at("bytes").get<double>() / figures.at("min_us").get<double>() * 1e-3;
    return fixed(figures.at("min_us").get<double>() / 1e3, 3) + " / " +
           fixed(figures.at("median_us").get<double>() / 1e3, 3) + " | " +
           fixed(figures.at("bytes").get<double>() * 1e-6, 1) + " (" + fixed(gbs, 0) + ") | " +
           fixed(100 * figures.at("peak_fraction").get<double>(), 0) + " % | " + fixed(1 / slow, 2);
}

void add_table(std::ostream &out, const TableSpec &table, const Sets &sets) {
    const bool fused = has_fused(sets);
    const bool paper = sets.front()->at("rows")[0].contains("paper");
    out << "| width | row | channels | MFLOPs | MAC | MAC/bound | ms | MB moved (GB/s) | of peak | speed |";
    if (fused) out << " fused: ms | MB moved (GB/s) | of peak | speed |";
    if (paper) out << " paper: ARM | GPU |";
    out << "\n|---|---|---|--:|--:|--:|--:|--:|--:|--:|";
    if (fused) out << "--:|--:|--:|--:|";
    if (paper) out << "--:|--:|";
    out << '\n';
    for (const Json *set : sets) {
        const Json &rows = set->at("rows");
        for (size_t i = 0; i < rows.size(); ++i) {
            const Json &row = rows[i];
            out << "| " << width_name(*set) << " | " << row.at("row").get<std::string>() << " | "
                << row.at("channels").get<std::string>() << " | " << fixed(row.at("flops").get<double>() * 1e-6, 1)
                << " | " << grouped(row.at("mac").get<int64_t>()) << " | "
                << (row.at("mac_bound").is_null()
                        ? "-"
                        : fixed(row.at("mac").get<double>() / row.at("mac_bound").get<double>(), 2))
                << " | " << cells_of(row.at("unfused"), slowdown(table, rows, i, "unfused")) << " |";
            if (fused) {
                out << ' '
                    << (row.contains("fused") ? cells_of(row.at("fused"), slowdown(table, rows, i, "fused"))
                                              : " | | | ")
                    << " |";
            }
            for (const char *machine : {"arm", "gpu"}) {
                if (paper) out << ' ' << fixed(1 / paper_slowdown(table, rows, i, machine), 2) << " |";
            }
            out << '\n';
        }
    }
}

/// Microseconds of the parts that are not convolutions, as a share of all.
double share_without_flops(const Json &version) {
    double us = 0;
    for (const char *part : {"element_wise", "data_movement", "other"}) {
        us += version.at("us").at(part).get<double>();
    }
    return us / version.at("total_us").get<double>();
}

Json decomposition_verdict(const Json &row) {
    const std::string name = row.at("network");
    const double unfused = share_without_flops(row.at("unfused"));
    const double speedup =
        row.at("unfused").at("total_us").get<double>() / row.at("fused").at("total_us").get<double>();
    return {{"table", "decomposition"},
            {"isa", row.at("isa")},
            {"version", "unfused"},
            {"guideline", kDecompositionClaim},
            {"holds_at", unfused > kHoldsBy ? Json{name} : Json::array()},
            {"text", name + (unfused > kHoldsBy ? ": holds here unfused" : ": does not hold here") + ", " +
                         fixed(100 * unfused, 0) + " % of the time; fused, the whole is " + fixed(speedup, 2) +
                         " times as fast"}};
}

void add_decomposition(std::ostream &out, const Json &list) {
    if (list.empty()) return;
    out << "\n## Run-time decomposition (figure 2)\n\nThe claim: " << kDecompositionClaim << ".\n\n";
    for (const Json &row : list) out << "- " << decomposition_verdict(row).at("text").get<std::string>() << ".\n";
    out << "\nMicroseconds, and the share of the whole, of a kernel for each layer, as in a framework; other: pools. "
           "Then the\nsame network as this library fuses it, where a kernel is several layers.\n\n"
           "| network | instruction set | kernels | total |";
    for (const std::string_view part : kTimeParts) out << ' ' << part << " |";
    out << " fused: kernels | total |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for (const Json &row : list) {
        const Json &unfused = row.at("unfused"), &fused = row.at("fused");
        const double total = unfused.at("total_us");
        out << "| " << row.at("network").get<std::string>() << " | " << row.at("isa").get<std::string>() << " | "
            << unfused.at("kernels").get<int>() << " | " << fixed(total, 0) << " |";
        for (const std::string_view part : kTimeParts) {
            const double us = unfused.at("us").at(std::string(part));
            out << ' ' << fixed(us, 0) << " (" << fixed(100 * us / total, 0) << " %) |";
        }
        out << ' ' << fused.at("kernels").get<int>() << " | " << fixed(fused.at("total_us").get<double>(), 0) << " |\n";
    }
}

double gflops_of(const Json &network) {
    return 2e-3 * network.at("flops").get<double>() / network.at("min_us").get<double>();
}

/// The ShuffleNetV2 of a set of networks: what the others are compared with; the first if there is none.
const Json &shufflenet_v2_of(const Json &networks) {
    const auto found = std::ranges::find_if(networks, [](const Json &network) {
        return network.at("network").get<std::string>().starts_with("shufflenet_v2");
    });
    return found == networks.end() ? networks.front() : *found;
}

/// Images a second, those of ShuffleNetV2 = 1: ours, and the paper's; 0 where it has none.
double relative_speed(const Json &networks, const Json &network) {
    return shufflenet_v2_of(networks).at("min_us").get<double>() / network.at("min_us").get<double>();
}
double paper_relative_speed(const Json &networks, const Json &network, const char *machine) {
    const Json &base = shufflenet_v2_of(networks);
    if (!network.contains("paper") || !base.contains("paper")) return 0;
    return network.at("paper").at(machine).get<double>() / base.at("paper").at(machine).get<double>();
}

Json networks_verdict(const Json &set) {
    const Json &networks = set.at("networks");
    const auto [least, most] = std::ranges::minmax_element(networks, {}, gflops_of);
    const bool holds = gflops_of(*most) > (1 + kHoldsBy) * gflops_of(*least);
    std::vector<std::string> faster;
    const std::string base = shufflenet_v2_of(networks).at("network");
    for (const Json &network : networks) {
        if (relative_speed(networks, network) > 1 + kNoise) faster.push_back(network.at("network"));
    }
    const std::string where = set.at("set").get<std::string>().substr(std::string("networks/").size());
    return {{"table", "networks"},
            {"isa", set.at("isa")},
            {"version", "fused"},
            {"guideline", kNetworksClaim},
            {"holds_at", holds ? Json{where} : Json::array()},
            {"text",
             where + (holds ? ": holds here" : ": does not hold here") + ", " + most->at("network").get<std::string>() +
                 " does " + fixed(gflops_of(*most) / gflops_of(*least), 2) + " times as many FLOPs a second as " +
                 least->at("network").get<std::string>() + "; " +
                 (faster.empty() ? "none is faster than " + base : "faster than " + base + ": " + join(faster))}};
}

void add_networks(std::ostream &out, const Json &list) {
    if (list.empty()) return;
    out << "\n## FLOPs and speed (figure 1)\n\nThe claim: " << kNetworksClaim << ".\n\n";
    for (const Json &set : list) out << "- " << networks_verdict(set).at("text").get<std::string>() << ".\n";
    out << "\nFused, as the library runs them, batch 1; the paper's columns are its Table 8's.\n\n"
           "| network | MFLOPs | ms | images/s | GFLOP/s | images/s, V2 = 1 | paper: ARM | GPU | top-1 error |\n"
           "|---|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for (const Json &set : list) {
        const Json &networks = set.at("networks");
        for (const Json &row : networks) {
            const double us = row.at("min_us"), flops = row.at("flops");
            out << "| " << row.at("network").get<std::string>() << " | " << fixed(flops * 1e-6, 1) << " | "
                << fixed(us / 1e3, 2) << " / " << fixed(row.at("median_us").get<double>() / 1e3, 2) << " | "
                << fixed(1e6 / us, 0) << " | " << fixed(gflops_of(row), 1) << " | "
                << fixed(relative_speed(networks, row), 2) << " |";
            for (const char *machine : {"arm", "gpu"}) {
                const double paper = paper_relative_speed(networks, row, machine);
                out << ' ' << (paper > 0 ? fixed(paper, 2) : "-") << " |";
            }
            out << ' ' << (row.contains("paper") ? fixed(row.at("paper").at("error").get<double>(), 1) : "-") << " |\n";
        }
    }
}

/// A table's figures on one instruction set, after its verdicts.
void add_section(std::ostream &out, const TableSpec &table, const std::string &isa, const Sets &sets,
                 const Json &verdicts) {
    out << "\n### " << isa << " (peak " << fixed(sets.front()->at("peak_gflops").get<double>(), 0) << " GFLOP/s)\n\n";
    for (const Json &verdict : verdicts) {
        if (verdict.at("table") != table.name || verdict.at("isa") != isa) continue;
        out << "- " << (has_fused(sets) ? "**" + verdict.at("version").get<std::string>() + "** " : "")
            << verdict.at("text").get<std::string>() << ".\n";
    }
    out << '\n';
    add_table(out, table, sets);
    if (has_fused(sets) && table.equal_flops()) add_fusing_table(out, table, removed_by_fusing(table, sets));
}

}  // namespace

Json verdicts_of(const Json &result) {
    Json verdicts = Json::array();
    for (const auto &[key, sets] : sets_of(result)) {
        const TableSpec &table = table_named(key.first);
        for (const std::string version : {"unfused", "fused"}) {
            if (version == "fused" && !has_fused(sets)) continue;
            Json verdict = {
                {"table", key.first}, {"isa", key.second}, {"version", version}, {"guideline", table.guideline}};
            if (table.best_row.empty()) {
                verdict.update(cells_verdict(table, sets, version));
            } else {
                const Worst worst = worst_of(table, sets, version);
                verdict.update(Json{{"holds_at", worst.holds_at},
                                    {"slowest", worst.rows},
                                    {"slowdown", worst.slowdown},
                                    {"text", verdict_text(table, sets, worst)}});
            }
            if (version == "fused" && table.equal_flops())
                verdict["removed_by_fusing"] = removed_by_fusing(table, sets);
            verdicts.push_back(verdict);
        }
    }
    for (const Json &row : result.at("decomposition")) verdicts.push_back(decomposition_verdict(row));
    for (const Json &set : result.at("networks")) verdicts.push_back(networks_verdict(set));
    return verdicts;
}

std::string markdown_of(const Json &result) {
    std::ostringstream out;
    out << "Machine: " << result.at("machine").get<std::string>() << ", " << result.at("date").get<std::string>()
        << ". " << result.at("threads") << (result.at("threads") == 1 ? " thread" : " threads") << ".\n";
    const Json verdicts = verdicts_of(result);
    for (const TableSpec &table : kTables) {
        bool first = true;
        for (const auto &[key, sets] : sets_of(result)) {
            if (key.first != table.name) continue;
            if (first) out << "\n## " << table.title << "\n\nThe guideline: " << table.guideline << ".\n";
            first = false;
            add_section(out, table, key.second, sets, verdicts);
        }
    }
    add_decomposition(out, result.at("decomposition"));
    add_networks(out, result.at("networks"));
    return out.str();
}

}  // namespace shufflenet::bench
