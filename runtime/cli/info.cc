// shufflenet info: shapes and cost of a model, layer by layer.
#include <iostream>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "error.h"
#include "networks/catalog.h"
#include "networks/shufflenet_v2.h"
#include "runtime/src/message.h"
#include "terminal.h"

namespace shufflenet::cli {

namespace {

struct Subject {
    std::string name;
    networks::Graph graph;
    int classes;                        ///< 0: there are none.
    std::optional<size_t> arena_bytes;  ///< Of a compiled model only.

    /// The row of its paper, if this is the network at that size.
    const networks::PublishedNetwork *as_published() const {
        const networks::PublishedNetwork *row = networks::find_published(graph.name);
        const bool same = row != nullptr && row->paper_mflops > 0 && graph.input == Size{row->crop, row->crop} &&
                          classes == networks::kDefaultClasses;
        return same ? row : nullptr;
    }
};

/// A compiled model, or a network as it was published.
Subject find_subject(const std::string &name) {
    const networks::PublishedNetwork *row = networks::find_published(name);
    if (find_model(name) == nullptr && row != nullptr && !row->test) {
        const int classes = networks::kDefaultClasses;
        return {name, *networks::published_network(name, {row->crop, row->crop}, classes), classes, {}};
    }
    const shufflenet_descriptor &descriptor = get_model(name);
    const ModelInfo info = describe(descriptor);
    return {name, graph_of(descriptor, info.classes), info.classes, info.arena_bytes};
}

/// How far a 1x1 convolution is from the least memory access that its FLOPs allow (guideline G1); 1 is the best.
std::optional<double> mac_ratio(const networks::Layer &layer) {
    if (!layer.pointwise()) return {};
    return static_cast<double>(layer.mac()) /
           networks::mac_lower_bound(layer.out.pixels(), static_cast<double>(layer.flops()));
}

/// What the paper says that the network costs.
int64_t published_flops(const Subject &subject, const networks::PublishedNetwork &row) {
    return row.comparison ? int64_t{row.paper_mflops} * 1'000'000 : networks::paper_flops(subject.graph);
}

void print_json(const Subject &subject) {
    using Json = nlohmann::ordered_json;
    const networks::Graph &graph = subject.graph;
    const auto shape = [](int channels, Size size) { return Json{channels, size.height, size.width}; };
    Json layers = Json::array(), outputs = Json::array();
    for (const networks::Layer &layer : graph.layers) {
        Json row = {{"id", layer.id},
                    {"kind", layer.kind_name()},
                    {"in", shape(layer.in_channels(), layer.in.front().size)},
                    {"out", shape(layer.out_channels, layer.out)},
                    {"flops", layer.flops()},
                    {"mac", layer.mac()},
                    {"parameters", layer.parameters()}};
        if (const auto ratio = mac_ratio(layer)) row["mac_ratio"] = *ratio;
        layers.push_back(row);
    }
    for (const networks::Output &output : graph.outputs) {
        outputs.push_back({{"name", output.name}, {"shape", shape(output.tensor.count(), output.tensor.size)}});
    }
    const networks::Cost cost = total_cost(graph);
    Json total = {{"flops", cost.flops}, {"mac", cost.mac}, {"parameters", cost.parameters}};
    if (const auto *row = subject.as_published()) total["paper_flops"] = published_flops(subject, *row);
    if (subject.arena_bytes) total["arena_bytes"] = *subject.arena_bytes;
    const Json all = {{"model", subject.name},
                      {"network", graph.name},
                      {"input", {graph.input.height, graph.input.width}},
                      {"classes", subject.classes},
                      {"outputs", outputs},
                      {"layers", layers},
                      {"total", total}};
    std::cout << all.dump(2) << '\n';
}

std::string shape_text(int channels, Size size) {
    return std::to_string(channels) + "x" + size_text(size.height, size.width);
}

/// "1000 classes", or the outputs' names.
std::string outputs_text(const Subject &subject) {
    if (subject.classes > 0) return std::to_string(subject.classes) + " classes";
    std::string text;
    for (const networks::Output &output : subject.graph.outputs) text += (text.empty() ? "" : ", ") + output.name;
    return "outputs " + message::one_line(text);
}

Table layer_table(const Subject &subject) {
    using enum Table::Align;
    Table table({{"layer"},
                 {"kind"},
                 {"input", kRight},
                 {"output", kRight},
                 {"FLOPs", kRight},
                 {"MAC", kRight},
                 {"parameters", kRight},
                 {"MAC/bound", kRight}});
    for (const networks::Layer &layer : subject.graph.layers) {
        const auto ratio = mac_ratio(layer);
        table.add_row({layer.id, std::string(layer.kind_name()), shape_text(layer.in_channels(), layer.in.front().size),
                       shape_text(layer.out_channels, layer.out), grouped(layer.flops()), grouped(layer.mac()),
                       grouped(layer.parameters()), ratio ? fixed(*ratio, 2) : ""});
    }
    const networks::Cost cost = total_cost(subject.graph);
    table.add_row({"total", "", shape_text(subject.graph.image_channels, subject.graph.input),
                   subject.classes > 0 ? std::to_string(subject.classes) : "", grouped(cost.flops), grouped(cost.mac),
                   grouped(cost.parameters), ""});
    return table;
}

void print_table(const Subject &subject) {
    const networks::Graph &graph = subject.graph;
    std::cout << subject.name << ": " << message::one_line(graph.name) << ", input "
              << shape_text(graph.image_channels, graph.input) << ", " << outputs_text(subject) << "\n\n";
    layer_table(subject).print();
    std::cout << '\n';
    if (const auto *row = subject.as_published()) {
        std::cout << (row->comparison ? "FLOPs in the paper, rounded (Table 8): "
                                      : "FLOPs of the paper's own variant (another split in stage 2): ")
                  << grouped(published_flops(subject, *row)) << '\n';
    }
    if (subject.arena_bytes) {
        std::cout << "arena: " << grouped(static_cast<int64_t>(*subject.arena_bytes)) << " bytes a thread\n";
    }
}

}  // namespace

int info(const InfoOptions &options) {
    const Subject subject = find_subject(options.model);
    options.json ? print_json(subject) : print_table(subject);
    return 0;
}

}  // namespace shufflenet::cli
