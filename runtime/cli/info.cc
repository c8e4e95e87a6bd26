// shufflenet info: shapes and cost of a model, layer by layer.
#include <iostream>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "error.h"
#include "networks/any_network.h"
#include "terminal.h"

namespace shufflenet::cli {

namespace {

struct Subject {
    std::string name;
    AnyNetwork network;
    Size input;
    int classes;
    std::optional<size_t> arena_bytes;  // Of a compiled model only.

    bool as_published() const { return input == Size{network.crop(), network.crop()} && classes == kDefaultClasses; }
};

/// A compiled model, or a network as it was published.
Subject find_subject(const std::string &name) {
    if (find_model(name) == nullptr) {
        for (const AnyNetwork &network : published_networks()) {
            if (network.name() == name) return {name, network, {network.crop(), network.crop()}, kDefaultClasses, {}};
        }
    }
    const ModelInfo info = describe(get_model(name));
    const auto network = find_any_network(info.network);
    if (!network) throw Error(name + ": unknown network " + info.network);
    return {name, *network, {info.height, info.width}, info.classes, info.arena_bytes};
}

/// How far a 1x1 convolution is from the least memory access that its FLOPs allow (guideline G1); 1 is the best.
std::optional<double> mac_ratio(const Layer &layer) {
    if (layer.kind != LayerKind::kPointwise) return {};
    return static_cast<double>(layer.mac()) / mac_lower_bound(layer.out.pixels(), layer.flops());
}

/// What the paper says that the network costs.
int64_t published_flops(const AnyNetwork &network) {
    const Comparison *comparison = network.comparison();
    return comparison != nullptr ? int64_t{comparison->paper_mflops} * 1'000'000
                                 : paper_flops(*network.shufflenet_v2());
}

void print_json(const Subject &subject) {
    using Json = nlohmann::ordered_json;
    Json layers = Json::array();
    for (const Layer &layer : network_layers(subject.network, subject.input, subject.classes)) {
        Json row = {{"id", layer.id.view()},
                    {"kind", to_string(layer.kind)},
                    {"in", {layer.in_channels, layer.in.height, layer.in.width}},
                    {"out", {layer.out_channels, layer.out.height, layer.out.width}},
                    {"flops", layer.flops()},
                    {"mac", layer.mac()},
                    {"parameters", layer.parameters()}};
        if (const auto ratio = mac_ratio(layer)) row["mac_ratio"] = *ratio;
        layers.push_back(row);
    }
    const Cost cost = total_cost(subject.network, subject.input, subject.classes);
    Json total = {{"flops", cost.flops}, {"mac", cost.mac}, {"parameters", cost.parameters}};
    if (subject.as_published()) total["paper_flops"] = published_flops(subject.network);
    if (subject.arena_bytes) total["arena_bytes"] = *subject.arena_bytes;
    const Json all = {{"model", subject.name},
                      {"network", subject.network.name()},
                      {"input", {subject.input.height, subject.input.width}},
                      {"classes", subject.classes},
                      {"layers", layers},
                      {"total", total}};
    std::cout << all.dump(2) << '\n';
}

std::string shape_text(int channels, Size size) {
    return std::to_string(channels) + "x" + size_text(size.height, size.width);
}

void print_table(const Subject &subject) {
    std::cout << subject.name << ": " << subject.network.name() << ", input 3x"
              << size_text(subject.input.height, subject.input.width) << ", " << subject.classes << " classes\n\n";
    using enum Table::Align;
    Table table({{"layer"},
                 {"kind"},
                 {"input", kRight},
                 {"output", kRight},
                 {"FLOPs", kRight},
                 {"MAC", kRight},
                 {"parameters", kRight},
                 {"MAC/bound", kRight}});
    for (const Layer &layer : network_layers(subject.network, subject.input, subject.classes)) {
        const auto ratio = mac_ratio(layer);
        table.add_row({std::string(layer.id.view()), std::string(to_string(layer.kind)),
                       shape_text(layer.in_channels, layer.in), shape_text(layer.out_channels, layer.out),
                       grouped(layer.flops()), grouped(layer.mac()), grouped(layer.parameters()),
                       ratio ? fixed(*ratio, 2) : ""});
    }
    const Cost cost = total_cost(subject.network, subject.input, subject.classes);
    table.add_row({"total", "", shape_text(3, subject.input), std::to_string(subject.classes), grouped(cost.flops),
                   grouped(cost.mac), grouped(cost.parameters), ""});
    table.print();
    std::cout << '\n';
    if (subject.as_published()) {
        std::cout << (subject.network.is_comparison() ? "FLOPs in the paper, rounded (Table 8): "
                                                      : "FLOPs of the paper's own variant (another split in stage 2): ")
                  << grouped(published_flops(subject.network)) << '\n';
    }
    if (subject.arena_bytes)
        std::cout << "arena: " << grouped(static_cast<int64_t>(*subject.arena_bytes)) << " bytes a thread\n";
}

}  // namespace

int info(const InfoOptions &options) {
    const Subject subject = find_subject(options.model);
    options.json ? print_json(subject) : print_table(subject);
    return 0;
}

}  // namespace shufflenet::cli
