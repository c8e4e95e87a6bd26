// ShuffleNetV2 and its comparison networks as one, for those who care for layers and sizes alone.
#pragma once

#include <optional>

#include "chain_layout.h"
#include "comparison.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// A network of either table, for those who care for layers alone.
class AnyNetwork {
  public:
    constexpr AnyNetwork(const Network &network) : network_(&network) {}  // NOLINT(google-explicit-constructor)
    constexpr AnyNetwork(const Comparison &comparison)
        : comparison_(&comparison), is_comparison_(true) {}  // NOLINT(google-explicit-constructor)

    constexpr std::string_view name() const { return is_comparison_ ? comparison_->name : network_->name; }
    constexpr bool is_comparison() const { return is_comparison_; }
    /// The row of its table, or nullptr.
    constexpr const Network *shufflenet_v2() const { return network_; }
    constexpr const Comparison *comparison() const { return comparison_; }
    /// Input height and width that it is published for.
    constexpr int crop() const { return is_comparison_ ? comparison_->crop : kDefaultCrop; }
    constexpr int resize() const { return is_comparison_ ? 256 : network_->default_resize; }

  private:
    const Network *network_ = nullptr;
    const Comparison *comparison_ = nullptr;
    // Which of them: sanitizers take the comparison of an address with nullptr out of constant expressions.
    bool is_comparison_ = false;
};

/// The network of that name, or nothing. Not by find_network() and find_comparison(), whose nullptr sanitizers do not
/// let a constant expression look for.
constexpr std::optional<AnyNetwork> find_any_network(std::string_view name) {
    std::optional<AnyNetwork> found;
    const auto look = [&](const auto &rows) {
        for (const auto &row : rows) {
            if (row.name == name) found = row;
        }
    };
    look(kNetworks);
    look(kTestNetworks);
    look(kComparisons);
    look(kTestComparisons);
    return found;
}

/// Every published network of both tables.
inline std::vector<AnyNetwork> published_networks() {
    std::vector<AnyNetwork> all(kNetworks.begin(), kNetworks.end());
    all.insert(all.end(), kComparisons.begin(), kComparisons.end());
    return all;
}

constexpr std::vector<Layer> network_layers(const AnyNetwork &n, Size input, int classes) {
    if (n.is_comparison()) return chain_layers(n.comparison()->chain(input), classes);
    return network_layers(*n.shufflenet_v2(), input, classes);
}

constexpr Cost total_cost(const AnyNetwork &n, Size input, int classes) {
    return total_cost(network_layers(n, input, classes));
}

constexpr int64_t arena_bytes(const AnyNetwork &n, Size input) {
    if (n.is_comparison()) return arena_bytes(n.comparison()->chain(input));
    return arena_bytes(*n.shufflenet_v2(), input);
}

}  // namespace shufflenet
