// The published networks by name. Each family registers its own rows: networks/families/ has a file for each.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bounds.h"
#include "graph.h"

namespace shufflenet::networks {

/// Classes that the published networks were trained with (ImageNet).
inline constexpr int kDefaultClasses = 1000;

/// One network of a paper.
struct PublishedNetwork {
    std::string name;
    /// Side of the square images that its complexity is published for, and of the short side that they are cut from.
    int crop = 224, resize = 256;
    /// Complexity in millions of multiply-adds as the ShuffleNetV2 paper gives it (Tables 5 and 8); 0: it is not in
    /// there.
    int paper_mflops = 0;
    /// Whether it is one of the networks that the paper compares with, and not a ShuffleNetV2.
    bool comparison = false;
    /// For tests only: shapes that break assumptions. Inputs may be smaller than kMinInput.
    bool test = false;
    /// The graph with outputs of these names; none: logits. Throws std::invalid_argument where there is no such output.
    std::function<Graph(Size input, int classes, std::span<const std::string> outputs)> make;
};

/// Rows of one family, at the start of a program: a static object of its file.
struct Registration {
    explicit Registration(std::vector<PublishedNetwork> added);
};

/// All rows, by family and width.
const std::vector<PublishedNetwork> &published_networks();
const PublishedNetwork *find_published(std::string_view name);

/// The graph of a row, or nothing.
std::optional<Graph> published_network(std::string_view name, Size input, int classes,
                                       std::span<const std::string> outputs = {});

/// Declares the tensors of those names as outputs; throws std::invalid_argument, naming those that there are, for any
/// other. No names: `fallback` alone.
void add_outputs(GraphBuilder *builder, std::span<const std::string> names, std::span<const Output> available,
                 std::string_view fallback);

}  // namespace shufflenet::networks
