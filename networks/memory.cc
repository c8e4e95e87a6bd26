// Where planes lie in the arena. A node writes its planes side by side; each is free again after its last reader.
#include <algorithm>
#include <climits>

#include "plan.h"

namespace shufflenet::networks {

namespace {

/// The output of one node: planes of `floats`, all there from step `born`, each until step `dies`.
struct Block {
    int node = 0, floats = 0, born = 0;
    std::vector<int> dies;
    int last() const { return *std::ranges::max_element(dies); }
    int64_t size() const { return int64_t{floats} * static_cast<int64_t>(dies.size()); }
};

std::vector<Block> blocks_of(const Nodes &nodes, const Places &places, const std::vector<bool> &resident) {
    const int count = static_cast<int>(nodes.nodes.size());
    std::vector<Block> all;
    for (int n = 0; n < count; ++n) {
        const Node &node = nodes.nodes[n];
        const int planes = node.groups * places.planes[n];
        all.push_back({n, node.out.pixels() * kPlane, n, std::vector<int>(planes, n)});
    }
    const auto read = [&](const Tensor &tensor, int step) {
        for (const Channel &channel : tensor.channels) {
            if (channel.layer == kImage || !resident[channel.layer]) continue;
            int &dies = all[channel.layer].dies[places.lane[channel.layer][channel.index] / kPlane];
            dies = std::max(dies, step);
        }
    };
    for (int n = 0; n < count; ++n) {
        for (const Tensor &tensor : nodes.nodes[n].in) read(tensor, n);
        // A plane without channels can be a shortcut's operand.
        for (const auto &operands : places.operands[n]) {
            for (const auto &[from, plane] : operands) all[from].dies[plane] = std::max(all[from].dies[plane], n);
        }
    }
    for (const Tensor &tensor : nodes.outputs) read(tensor, count);
    std::erase_if(all, [&](const Block &block) { return !resident[block.node]; });
    return all;
}

/// Blocks one after another, each at the lowest offset where none of its planes meets one that lives at the same time.
class Packer {
  public:
    void place(const Block &block) {
        int best = INT_MAX;
        for (const int at : candidates(block)) {
            if (at < best && fits(block, at)) best = at;
        }
        for (size_t plane = 0; plane < block.dies.size(); ++plane) {
            const int begin = best + static_cast<int>(plane) * block.floats;
            taken_.push_back({begin, begin + block.floats, block.born, block.dies[plane]});
        }
        offset_.emplace_back(block.node, best);
        size_ = std::max(size_, best + static_cast<int>(block.size()));
    }
    int size() const { return size_; }
    const std::vector<std::pair<int, int>> &offsets() const { return offset_; }

  private:
    struct Taken {
        int begin, end, born, dies;
    };
    /// Where a block can start: at the bottom, or where one of its planes starts behind something that is there.
    std::vector<int> candidates(const Block &block) const {
        std::vector<int> all = {0};
        for (const Taken &taken : taken_) {
            for (size_t plane = 0; plane < block.dies.size(); ++plane) {
                const int at = taken.end - static_cast<int>(plane) * block.floats;
                if (at >= 0) all.push_back(at);
            }
        }
        std::ranges::sort(all);
        all.erase(std::unique(all.begin(), all.end()), all.end());
        return all;
    }
    bool fits(const Block &block, int at) const {
        for (const Taken &taken : taken_) {
            if (taken.dies < block.born || taken.begin >= at + block.size() || taken.end <= at) continue;
            for (size_t plane = 0; plane < block.dies.size(); ++plane) {
                const int begin = at + static_cast<int>(plane) * block.floats;
                const bool meets = begin < taken.end && taken.begin < begin + block.floats;
                if (meets && taken.born <= block.dies[plane]) return false;
            }
        }
        return true;
    }

    std::vector<Taken> taken_;
    std::vector<std::pair<int, int>> offset_;
    int size_ = 0;
};

}  // namespace

Memory allocate(const Nodes &nodes, const Places &places, const std::vector<bool> &resident) {
    const std::vector<Block> blocks = blocks_of(nodes, places, resident);
    Memory best{std::vector<int>(nodes.nodes.size()), INT_MAX};
    const auto try_order = [&](const auto &order) {
        std::vector<Block> sorted = blocks;
        std::ranges::stable_sort(sorted, order);
        Packer packer;
        for (const Block &block : sorted) packer.place(block);
        if (packer.size() >= best.floats) return;
        best.floats = packer.size();
        for (const auto &[node, offset] : packer.offsets()) best.offset[node] = offset;
    };
    // No one order is best for all graphs: the largest first, the longest-lived first, as they come.
    try_order([](const Block &a, const Block &b) { return a.size() > b.size(); });
    try_order(
        [](const Block &a, const Block &b) { return (a.last() - a.born) * a.size() > (b.last() - b.born) * b.size(); });
    try_order([](const Block &a, const Block &b) { return a.born < b.born; });
    return best;
}

}  // namespace shufflenet::networks
