// Where channels lie: which lane of its node's planes each one has.
//
// A kernel that reads its input through a table writes its own channels in any order. One that reads whole planes (a
// pool, an addition, a shortcut) keeps the lanes of what it reads, and so ties channels of several nodes together: a
// class of tied channels is a row, and lies in the same lane everywhere. Rows are ordered by who reads them, so that
// readers find runs and what is read no longer leaves whole planes free.
#include <algorithm>
#include <array>
#include <map>
#include <stdexcept>

#include "plan.h"

namespace shufflenet::networks {

namespace {

/// Classes of tied channels, a union-find that can be undone; no class has two channels of one node.
class Rows {
  public:
    int add(int node) {
        parent_.push_back(static_cast<int>(parent_.size()));
        members_.push_back({{node, static_cast<int>(parent_.size()) - 1}});
        return parent_.back();
    }
    int find(int id) const {
        while (parent_[id] != id) id = parent_[id];
        return id;
    }
    /// The channel of each node in the class of a root.
    const std::map<int, int> &members(int root) const { return members_[root]; }

    using Log = std::vector<std::pair<int, int>>;
    /// Ties the pairs; false, and nothing tied: two channels of one node would be in a class.
    bool tie(const std::vector<std::pair<int, int>> &pairs, Log *log) {
        for (auto [a, b] : pairs) {
            a = find(a);
            b = find(b);
            if (a == b) continue;
            if (members_[a].size() < members_[b].size()) std::swap(a, b);
            const auto shared = [&, a = a](const auto &member) { return members_[a].contains(member.first); };
            if (std::ranges::any_of(members_[b], shared)) {
                undo(*log);
                log->clear();
                return false;
            }
            parent_[b] = a;
            members_[a].insert(members_[b].begin(), members_[b].end());
            log->emplace_back(a, b);
        }
        return true;
    }
    void undo(const Log &log) {
        for (size_t i = log.size(); i-- > 0;) {
            const auto [a, b] = log[i];
            parent_[b] = b;
            for (const auto &[node, id] : members_[b]) members_[a].erase(node);
        }
    }

  private:
    std::vector<int> parent_;
    std::vector<std::map<int, int>> members_;
};

class Placer {
  public:
    Placer(const Graph &graph, Nodes *nodes) : g_(graph), nodes_(*nodes) {}

    Places run() {
        tie_all();
        count_readers();
        const size_t count = nodes_.nodes.size();
        places_.lane.resize(count);
        places_.planes.resize(count);
        places_.lanes.resize(count);
        places_.operands.resize(count);
        for (int n = 0; n < static_cast<int>(count); ++n) {
            nodes_.nodes[n].free() ? order_lanes(n) : follow_operands(n);
            if (nodes_.nodes[n].free() && nodes_.nodes[n].in.size() > 1) match_shortcut(n);
        }
        return std::move(places_);
    }

  private:
    const Node &node(int n) const { return nodes_.nodes[n]; }
    int row_of(const Channel &channel) const { return rows_.find(ids_[channel.layer][channel.index]); }

    void add_ids(int n) {
        ids_.resize(std::max<size_t>(ids_.size(), size_t(n) + 1));
        for (int i = 0; i < node(n).out_channels; ++i) ids_[n].push_back(rows_.add(n));
    }

    /// Nodes are numbered anew when a copy comes before one; rows know nodes by their number, so the list is built up
    /// with the copies in it.
    void tie_all() {
        const std::vector<Node> wanted = std::move(nodes_.nodes);
        nodes_.nodes.clear();
        std::vector<int> number(wanted.size());
        const auto renumber = [&](Tensor &tensor) {
            for (Channel &channel : tensor.channels) {
                if (channel.layer != kImage) channel.layer = number[channel.layer];
            }
        };
        for (size_t i = 0; i < wanted.size(); ++i) {
            Node next = wanted[i];
            for (Tensor &tensor : next.in) renumber(tensor);
            tie_node(&next);
            number[i] = static_cast<int>(nodes_.nodes.size()) - 1;
        }
        for (Tensor &tensor : nodes_.outputs) renumber(tensor);
    }

    /// Appends a node, after copies of those of its operands that cannot be tied to it.
    void tie_node(Node *next) {
        while (true) {
            const int n = static_cast<int>(nodes_.nodes.size());
            nodes_.nodes.push_back(*next);
            add_ids(n);
            Rows::Log all;
            int refused = -1;
            std::string reason;
            for (int o = 0; o < static_cast<int>(next->in.size()) && refused < 0; ++o) {
                if (!next->tied(o)) continue;
                Rows::Log log;
                if (!try_tie(n, o, &log, &reason)) refused = o;
                all.insert(all.end(), log.begin(), log.end());
            }
            if (refused < 0) return;
            rows_.undo(all);
            ids_.pop_back();
            nodes_.nodes.pop_back();
            insert_copy(next, refused, reason);
        }
    }

    bool try_tie(int n, int operand, Rows::Log *log, std::string *reason) {
        std::vector<std::pair<int, int>> pairs;
        const Tensor &in = node(n).in[operand];
        for (int j = 0; j < in.count(); ++j) {
            const Channel &from = in.channels[j];
            if (from.layer == kImage) {
                *reason = "the image is not in planes";
                return false;
            }
            pairs.emplace_back(ids_[n][j], ids_[from.layer][from.index]);
        }
        const bool soft = operand > 0;
        const int64_t before = soft ? vectors_concerned(pairs) : 0;
        if (!rows_.tie(pairs, log)) {
            *reason = "two channels of one kernel would share a lane";
            return false;
        }
        if (!soft) return true;
        // A copy costs a read and a write of each vector.
        constexpr int64_t kCopy = 2;
        const int64_t copy = kCopy * planes_of(in.count()) * in.size.pixels();
        const int64_t added = vectors_concerned(pairs) - before;
        if (added <= copy) return true;
        rows_.undo(*log);
        log->clear();
        *reason =
            "tying it would add " + std::to_string(added / in.size.pixels()) + " vectors a pixel to other kernels";
        return false;
    }

    /// Vectors times pixels of the nodes that have channels in the rows of these pairs, if rows held by the same nodes
    /// are kept together.
    int64_t vectors_concerned(const std::vector<std::pair<int, int>> &pairs) const {
        std::set<int> concerned;
        for (const auto &[a, b] : pairs) {
            for (const int id : {a, b}) {
                for (const auto &[n, member] : rows_.members(rows_.find(id))) concerned.insert(n);
            }
        }
        int64_t vectors = 0;
        for (const int n : concerned) {
            std::map<std::vector<int>, int> counts;
            for (const int id : ids_[n]) {
                std::vector<int> holders;
                for (const auto &[other, member] : rows_.members(rows_.find(id))) {
                    if (concerned.contains(other) && fixes_lanes(other)) holders.push_back(other);
                }
                ++counts[holders];
            }
            for (const auto &[holders, count] : counts) vectors += int64_t{planes_of(count)} * node(n).out.pixels();
        }
        return vectors;
    }

    /// Whether a node decides where rows lie: it is free, or two operands meet in it.
    bool fixes_lanes(int n) const { return node(n).free() || node(n).kind == KernelKind::kAdd; }

    void insert_copy(Node *next, int operand, const std::string &reason) {
        Node copy{.kind = KernelKind::kCopy, .in = {next->in[operand]}, .reason = reason};
        copy.out_channels = copy.in[0].count();
        copy.out = copy.in[0].size;
        const int n = static_cast<int>(nodes_.nodes.size());
        nodes_.nodes.push_back(copy);
        add_ids(n);
        for (int j = 0; j < copy.out_channels; ++j) next->in[operand].channels[j] = {n, j};
    }

    void count_readers() {
        for (int n = 0; n < static_cast<int>(nodes_.nodes.size()); ++n) {
            for (int o = 0; o < static_cast<int>(node(n).in.size()); ++o) {
                const Tensor &in = node(n).in[o];
                const int groups = o == 0 ? reading_groups(n) : 1;
                for (int j = 0; j < in.count(); ++j) {
                    if (in.channels[j].layer == kImage) continue;
                    const int row = row_of(in.channels[j]);
                    if (node(n).reads_planes(o, g_)) plane_readers_[row].insert(n);
                    if (!node(n).tied(o)) table_readers_[row].insert({n, j * groups / in.count()});
                }
            }
            const int count = node(n).out_channels;
            for (int j = 0; node(n).groups > 1 && j < count; ++j) {
                own_groups_[rows_.find(ids_[n][j])].push_back({n, j * node(n).groups / count});
            }
        }
    }
    /// Groups of the convolution that reads a node's first operand through the table.
    int reading_groups(int n) const {
        return node(n).layers.empty()                     ? 1
               : g_.layers[node(n).layers[0]].depthwise() ? 1
                                                          : g_.layers[node(n).layers[0]].groups;
    }

    /// What orders rows within a node: all of it belongs to the row, so that two nodes order the rows that they share
    /// in the same way.
    struct Key {
        std::vector<std::pair<int, int>> own;      ///< Groups of grouped convolutions that compute it.
        std::vector<std::pair<int, int>> readers;  ///< Convolutions that read it, and which of their groups.
        auto operator<=>(const Key &) const = default;
    };
    Key key(int row) const {
        Key key;
        if (const auto own = own_groups_.find(row); own != own_groups_.end()) key.own = own->second;
        const auto readers = table_readers_.find(row);
        if (readers != table_readers_.end()) key.readers.assign(readers->second.begin(), readers->second.end());
        // What nobody reads comes last.
        if (key.readers.empty()) key.readers.emplace_back(1 << 30, 0);
        return key;
    }

    struct Placed {
        Key key;
        int row_first;  ///< The row's first member, which breaks ties.
        int channel;
        auto operator<=>(const Placed &) const = default;
    };
    using Run = std::vector<Placed>;

    /// Rows held by the same nodes that fix lanes start at a plane of their own; inside, those that more planes'
    /// readers share come first, whole planes of them without padding.
    std::vector<std::vector<Run>> groups_of(int n, int group) const {
        struct Outer {
            std::map<std::pair<std::vector<int>, std::vector<int>>, Run> inner;
        };
        std::map<std::pair<std::vector<int>, std::vector<std::pair<int, int>>>, Outer> outer;
        const int count = node(n).out_channels / node(n).groups;
        for (int i = group * count; i < (group + 1) * count; ++i) {
            const int row = rows_.find(ids_[n][i]);
            std::vector<int> fixing, holding;
            for (const auto &[holder, id] : rows_.members(row)) {
                holding.push_back(holder);
                if (fixes_lanes(holder)) fixing.push_back(holder);
            }
            std::vector<int> planes;
            if (const auto found = plane_readers_.find(row); found != plane_readers_.end()) {
                planes.assign(found->second.begin(), found->second.end());
            }
            const Key k = key(row);
            outer[{fixing, k.own}].inner[{holding, planes}].push_back({k, rows_.members(row).begin()->second, i});
        }
        std::vector<std::vector<Run>> result;
        for (auto &[fixing, group_rows] : outer) {
            std::vector<std::pair<int, Run>> inner;
            for (auto &[holders, run] : group_rows.inner) {
                std::ranges::sort(run);
                inner.emplace_back(-static_cast<int>(holders.first.size() + holders.second.size()), std::move(run));
            }
            std::ranges::sort(inner);
            std::vector<Run> runs;
            for (auto &[size, run] : inner) runs.push_back(std::move(run));
            result.push_back(std::move(runs));
        }
        std::ranges::sort(result);
        return result;
    }

    void order_lanes(int n) {
        places_.lane[n].resize(node(n).out_channels);
        std::vector<std::vector<std::pair<int, int>>> at(node(n).groups);
        for (int group = 0; group < node(n).groups; ++group) {
            int end = 0;
            for (const std::vector<Run> &outer : groups_of(n, group))
                end = lay(outer, round_up(end, kPlane), &at[group]);
            places_.lanes[n] = std::max(places_.lanes[n], end);
        }
        places_.planes[n] = planes_of(places_.lanes[n]);
        for (int group = 0; group < node(n).groups; ++group) {
            for (const auto &[channel, lane] : at[group]) {
                places_.lane[n][channel] = group * places_.planes[n] * kPlane + lane;
            }
        }
    }

    /// Lays runs from lane `first` on; the end. Channels with equal readers start at a multiple of 16 or 4 where that
    /// takes no more lanes: readers of several channels at a time then find them together.
    static int lay(const std::vector<Run> &runs, int first, std::vector<std::pair<int, int>> *at) {
        int count = 0;
        for (const Run &run : runs) count += static_cast<int>(run.size());
        for (const int step : {kPlane, kShortestVector, 1}) {
            std::vector<std::pair<int, int>> placed;
            int end = first;
            for (const Run &run : runs) {
                const Key *last = nullptr;
                for (const Placed &row : run) {
                    if (last == nullptr || *last != row.key) end = round_up(end, step);
                    last = &row.key;
                    placed.emplace_back(row.channel, end++);
                }
            }
            if (round_up(end - first, kShortestVector) > round_up(count, kShortestVector)) continue;
            at->insert(at->end(), placed.begin(), placed.end());
            return end;
        }
        return first;
    }

    int plane_of(const Channel &channel) const { return places_.lane[channel.layer][channel.index] / kPlane; }
    int lane_in_plane(const Channel &channel) const { return places_.lane[channel.layer][channel.index] % kPlane; }

    void follow_operands(int n) {
        std::map<std::vector<std::pair<int, int>>, int> planes;
        const auto tuple = [&](int j) {
            std::vector<std::pair<int, int>> from;
            for (const Tensor &in : node(n).in) from.emplace_back(in.channels[j].layer, plane_of(in.channels[j]));
            return from;
        };
        for (int j = 0; j < node(n).out_channels; ++j) planes.emplace(tuple(j), 0);
        for (auto &[from, number] : planes) {
            number = static_cast<int>(places_.operands[n].size());
            places_.operands[n].push_back(from);
        }
        places_.planes[n] = static_cast<int>(planes.size());
        places_.lanes[n] = places_.planes[n] * kPlane;
        for (int j = 0; j < node(n).out_channels; ++j) {
            const int lane = lane_in_plane(node(n).in[0].channels[j]);
            for (const Tensor &in : node(n).in) expect(lane_in_plane(in.channels[j]) == lane);
            places_.lane[n].push_back(planes[tuple(j)] * kPlane + lane);
        }
    }

    /// The planes that a shortcut reads: one for each of its own.
    void match_shortcut(int n) {
        places_.operands[n].resize(size_t(node(n).groups) * places_.planes[n]);
        for (int j = 0; j < node(n).out_channels; ++j) {
            const int lane = places_.lane[n][j];
            const Channel &from = node(n).in[1].channels[j];
            const std::pair<int, int> plane{from.layer, plane_of(from)};
            std::vector<std::pair<int, int>> &operand = places_.operands[n][lane / kPlane];
            if (operand.empty()) operand.push_back(plane);
            expect(operand[0] == plane && lane_in_plane(from) == lane % kPlane);
        }
        // A plane without channels of its own adds anything to what nobody reads.
        for (auto &operand : places_.operands[n]) {
            if (operand.empty()) operand = places_.operands[n].front();
        }
    }

    static void expect(bool holds) {
        if (!holds) throw std::logic_error("tied channels do not lie in one lane");
    }

    const Graph &g_;
    Nodes &nodes_;
    Rows rows_;
    std::vector<std::vector<int>> ids_;  ///< Of each node's channels, in rows_.
    std::map<int, std::set<int>> plane_readers_;
    std::map<int, std::set<std::pair<int, int>>> table_readers_;
    std::map<int, std::vector<std::pair<int, int>>> own_groups_;
    Places places_;
};

}  // namespace

Places place_channels(const Graph &graph, Nodes *nodes) { return Placer(graph, nodes).run(); }

}  // namespace shufflenet::networks
