// shufflenet list: the models compiled in.
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <vector>

#include "commands.h"
#include "error.h"
#include "models/compiled_models.h"
#include "runtime/src/isa.h"
#include "terminal.h"

namespace shufflenet::cli {

namespace {

struct Row {
    ModelInfo info;
    std::vector<std::string> targets, devices;
    std::string isa;
    Status isa_status;
    bool is_default;
};

std::vector<std::string> split(const std::string &text) {
    std::vector<std::string> parts;
    std::istringstream stream(text);
    for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
    return parts;
}

std::vector<Row> all_rows() {
    std::vector<Row> rows;
    for (const shufflenet_descriptor *model : compiled_models()) {
        Row row{describe(*model), {}, {}, {}, {}, model == &default_model()};
        row.targets = split(row.info.targets);
        row.devices = split(compiled_devices(*model));
        row.isa_status = chosen_isa(*model, &row.isa);
        rows.push_back(row);
    }
    return rows;
}

/// An instruction set that this CPU lacks is worth showing; one that no model knows is a typing error.
void check_forced_isa(const std::vector<Row> &rows) {
    const char *forced = std::getenv(kIsaVariable);
    if (forced == nullptr || *forced == '\0') return;
    std::set<std::string> known;
    for (const Row &row : rows) known.insert(row.targets.begin(), row.targets.end());
    if (!known.contains(forced) && !rows.empty()) check(rows.front().isa_status);
}

void print_json(const std::vector<Row> &rows) {
    auto list = nlohmann::ordered_json::array();
    for (const Row &row : rows) {
        nlohmann::ordered_json model = {
            {"name", row.info.name},       {"network", row.info.network}, {"input", {row.info.height, row.info.width}},
            {"classes", row.info.classes}, {"targets", row.targets},      {"devices", row.devices},
        };
        model["isa"] = nullptr;
        if (row.isa_status.ok()) {
            model["isa"] = row.isa;
        } else {
            model["isa_error"] = message_of(row.isa_status);
        }
        model["outputs"] = nlohmann::ordered_json::array();
        for (const auto &[name, shape] : row.info.outputs) {
            model["outputs"].push_back({{"name", name}, {"shape", {shape.channels, shape.height, shape.width}}});
        }
        model["embedded_weights"] = row.info.embedded_weights;
        model["default"] = row.is_default;
        list.push_back(model);
    }
    std::cout << list.dump(2) << '\n';
}

/// Instruction sets, and then devices.
std::string targets_text(const Row &row) {
    std::string text = row.info.targets;
    for (const std::string &device : row.devices) text += "," + device;
    return text;
}

void print_table(const std::vector<Row> &rows) {
    using enum Table::Align;
    Table table({{"name"},
                 {"network"},
                 {"input", kRight},
                 {"classes", kRight},
                 {"targets"},
                 {"weights"},
                 {"default"},
                 {"runs on"}});
    for (const Row &row : rows) {
        table.add_row({row.info.name, row.info.network, size_text(row.info.height, row.info.width),
                       row.info.classes > 0 ? std::to_string(row.info.classes) : "", targets_text(row),
                       row.info.embedded_weights ? "embedded" : "from a file", row.is_default ? "yes" : "",
                       row.isa_status.ok() ? row.isa : message_of(row.isa_status)});
    }
    table.print();
}

}  // namespace

int list(const ListOptions &options) {
    const std::vector<Row> rows = all_rows();
    check_forced_isa(rows);
    options.json ? print_json(rows) : print_table(rows);
    return 0;
}

}  // namespace shufflenet::cli
