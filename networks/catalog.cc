#include "catalog.h"

#include <algorithm>
#include <stdexcept>

namespace shufflenet::networks {

namespace {

std::vector<PublishedNetwork> &rows() {
    static std::vector<PublishedNetwork> all;
    return all;
}

}  // namespace

Registration::Registration(std::vector<PublishedNetwork> added) {
    std::vector<PublishedNetwork> &all = rows();
    all.insert(all.end(), std::make_move_iterator(added.begin()), std::make_move_iterator(added.end()));
    // The flagship first, then by name; a family's own order stays.
    std::ranges::stable_sort(all, {}, [](const PublishedNetwork &row) {
        const std::string family = row.name.substr(0, row.name.rfind("_x"));
        return std::pair{row.test ? 2 : int{row.comparison}, family};
    });
}

const std::vector<PublishedNetwork> &published_networks() { return rows(); }

const PublishedNetwork *find_published(std::string_view name) {
    const auto found = std::ranges::find(rows(), name, &PublishedNetwork::name);
    return found == rows().end() ? nullptr : &*found;
}

std::optional<Graph> published_network(std::string_view name, Size input, int classes,
                                       std::span<const std::string> outputs) {
    const PublishedNetwork *row = find_published(name);
    if (row == nullptr) return std::nullopt;
    Graph graph = row->make(input, classes, outputs);
    graph.name = row->name;
    return graph;
}

void add_outputs(GraphBuilder *builder, std::span<const std::string> names, std::span<const Output> available,
                 std::string_view fallback) {
    const auto add = [&](std::string_view name) {
        const auto found = std::ranges::find(available, name, &Output::name);
        if (found == available.end()) {
            std::string known;
            for (const Output &output : available) known += (known.empty() ? "" : ", ") + output.name;
            throw std::invalid_argument("outputs: expected some of " + known + ", found " + std::string(name));
        }
        builder->output(found->name, found->tensor);
    };
    if (names.empty()) return add(fallback);
    for (const std::string &name : names) add(name);
}

}  // namespace shufflenet::networks
