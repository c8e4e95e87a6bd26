// The kernels of a chain: one generator for all kinds of steps. Its arguments are the same for every one, so that the
// runtime calls them in a loop.
#include <algorithm>
#include <optional>

#include "chain_layout.h"
#include "comparison.h"
#include "generators/kernel_generator.h"
#include "networks/guidelines.h"

namespace shufflenet::generators {

namespace {

constexpr float kSix = 6.0F;

Expr activated(const Expr &value, shufflenet::Activation activation) {
    using enum shufflenet::Activation;
    switch (activation) {
    case kRelu:
        return at_least(value, 0.0F);
    case kRelu6:
        return at_most(at_least(value, 0.0F), kSix);
    case kNone:
        break;
    }
    return value;
}

Epilogue epilogue(shufflenet::Activation activation) {
    return [activation](const Expr &sum, const Expr &, const Expr &) { return activated(sum, activation); };
}

std::vector<ChannelPart> one_part(int lanes, int panel) { return {{0, lanes, panel}}; }

}  // namespace

/// Step `step` of a chain, or the unit that a block is. `in`: the tensor before, or a CHW image; `out`: (channel of a
/// group, pixel, group).
class ChainGenerator : public Kernel<ChainGenerator> {
  public:
    GeneratorParam<int> step{"step", 0};
    /// A block of networks/guidelines.h that is a unit of a chain; empty: the network's step.
    GeneratorParam<std::string> block{"block", ""};
    Input<Buffer<float>> in{"in", 1};
    Input<Buffer<float>> weights{"weights", 1};
    Output<Buffer<float>> out{"out", 3};

    void generate() {
        choose_step();
        if (leaves_out("data_movement")) s_.shuffle = 1;
        const bool image = s_.kind == StepKind::kStem;
        in_lanes_ = image ? 3 : chain_lanes(s_.in_channels);
        // An image is the caller's, and lies anywhere.
        fix(in, 0, in_lanes_ * s_.in.pixels(), 1);
        if (!image) in.set_host_alignment(sizeof(float) * kLineFloats);
        fix_line(weights, std::max(1, blob_size(s_)));
        switch (s_.kind) {
        case StepKind::kStem:
            return generate_stem();
        case StepKind::kUnit:
            return generate_unit();
        case StepKind::kAveragePool:
            return generate_average();
        case StepKind::kHead:
            return generate_head();
        }
    }

  private:
    void choose_step() {
        if (!block.value().empty()) {
            const std::optional<Step> unit = find_block(block.value()).step;
            if (!unit) throw std::runtime_error(block.value() + ": not a unit of a chain");
            s_ = *unit;
            return;
        }
        const Comparison *comparison = find_comparison(network.value());
        if (comparison == nullptr) throw std::runtime_error("unknown network: " + network.value());
        const Chain chain = comparison->chain(input_size());
        const std::vector<int> kernels = step_kernels(chain);
        const auto found = std::find(kernels.begin(), kernels.end(), step.value());
        if (found == kernels.end()) throw std::runtime_error("no step " + std::to_string(step.value()));
        const auto number = static_cast<size_t>(found - kernels.begin());
        s_ = chain.steps[number];
        // An average goes where the unit after it writes.
        if (s_.kind == StepKind::kAveragePool) average_lanes_ = out_lanes(chain.steps[number + 1]);
    }
    /// Of an activation that is not left out.
    Epilogue epilogue_of(shufflenet::Activation activation) const {
        return epilogue(leaves_out("element_wise") ? shufflenet::Activation::kNone : activation);
    }
    Blob blob() {
        return [this](Expr i) { return weights(i); };
    }
    /// The blob from group g of convolutions `stride` floats apart.
    Blob blob(int stride) {
        return [this, stride](Expr i) { return weights(i + g * stride); };
    }
    Expr input(const Expr &lane, const Expr &pixel) { return in(lane + pixel * in_lanes_); }

    /// Groups `group_stride` lanes apart, within pixels of `lanes`.
    void emit_groups(int computed, int lanes, int groups, int group_stride) {
        fix(out, 0, computed, 1);
        fix(out, 1, s_.out.pixels(), lanes);
        fix(out, 2, groups, group_stride);
    }
    void generate_stem() {
        const WindowLayout layout = chain_stem_layout(s_);
        const auto image = [this](Expr ix, Expr iy, Expr ci) {
            return in(ix + iy * s_.in.width + ci * s_.in.pixels());
        };
        Stem f = stem("stem", layout, one_part(layout.lanes, layout.vec), s_.in, s_.pool, blob(), image, c, x, y, p,
                      epilogue_of(s_.activation), {g});
        out = f.parts[0].out;
        emit_groups(layout.lanes, layout.lanes, 1, layout.lanes);
        schedule(f);
    }

    void generate_unit() {
        const UnitLayout layout = unit_layout(s_);
        Activation middle = [this](Expr lane, Expr pixel) { return input(lane, pixel); };
        std::optional<Pointwise> pw1;
        if (s_.expanded > 0) {
            pw1 = expansion(layout);
            middle = [this, out = pw1->parts[0].out](Expr lane, Expr pixel) { return out(lane, pixel, g); };
        }
        Depthwise dw = depthwise("dw", layout.depthwise, one_part(layout.depthwise.lanes, layout.depthwise.vec), s_.in,
                                 s_.stride, blob(layout.depthwise_stride), {middle}, c, x, y, p,
                                 epilogue_of(s_.depthwise_activation), {g}, depthwise_window());
        dw.groups = s_.expand_groups;
        Pointwise pw2 =
            pointwise("pw2", layout.project, one_part(layout.project.lanes, layout.project.vec), s_.out.pixels(),
                      blob(layout.project_stride), summands(dw.parts[0].out), c, p, joined(), {g});
        out = pw2.parts[0].out;
        emit_groups(layout.project.lanes, out_lanes(s_), s_.project_groups, s_.projected() / s_.project_groups);
        if (pw1) {
            Branch2 f{c, x, y, p, *pw1, dw, pw2};
            schedule(f);
        } else {
            Branch1 f{c, x, y, p, dw, pw2};
            schedule(f);
        }
    }

    Pointwise expansion(const UnitLayout &layout) {
        const int inputs = layout.expand.k;
        const Gather read = [this, inputs](const Expr &entry, const Expr &lanes, const Expr &pixel) {
            return input(g * inputs + entry + lanes, pixel);
        };
        return pointwise("pw1", layout.expand, one_part(layout.expand.lanes, layout.expand.vec), s_.in.pixels(),
                         blob(layout.expand_stride), gathered(inputs, inputs / kFour, machine().lane_operands, read), c,
                         p, epilogue_of(s_.expand_activation), {g});
    }

    /// What the last convolution sums over: behind the channel shuffle, and by the groups of the first convolution.
    std::vector<Summands> summands(const Func &dw) {
        const int group_outputs = s_.middle() / s_.expand_groups;
        const int run = s_.middle() / s_.shuffle;
        const int k = s_.middle() / s_.project_groups;
        const auto at = [=, this](const Expr &channel, const Expr &pixel) {
            if (s_.expand_groups == 1) return dw(channel, pixel, 0);
            return dw(channel % group_outputs, pixel, channel / group_outputs);
        };
        if (s_.shuffle == 1 && s_.expand_groups == 1) {
            return gathered(k, k / kFour, machine().lane_operands,
                            [=, this](const Expr &entry, const Expr &lanes, const Expr &pixel) {
                                return at(g * k + entry + lanes, pixel);
                            });
        }
        return {{k, 1, [=, this](const Expr &i, const Expr &pixel) {
                     const Expr place = g * k + i;
                     return at(place % run * s_.shuffle + place / run, pixel);
                 }}};
    }

    Epilogue joined() {
        if (s_.shortcut != Shortcut::kAdd || leaves_out("element_wise")) return epilogue_of(s_.activation);
        const int group_outputs = s_.projected() / s_.project_groups;
        return [=, this](const Expr &sum, const Expr &lane, const Expr &pixel) {
            return activated(sum + input(g * group_outputs + lane, pixel), s_.activation);
        };
    }

    void generate_average() {
        const WindowLayout layout = window_layout(0, kTaps, s_.in_channels, chain_panel(s_.in_channels));
        const auto read = [this](const Expr &lane, const Expr &pixel) { return input(lane, pixel); };
        AveragePool f{c, x, y, p, average_pool("average", layout, s_.in, read, c, x, y, p, {g})};
        out = f.dw.parts[0].out;
        emit_groups(layout.lanes, average_lanes_, 1, layout.lanes);
        schedule(f);
    }

    void generate_head() {
        const float share = 1.0F / static_cast<float>(s_.in.pixels());
        const RDom pixel(0, s_.in.pixels(), "pixel");
        Func total("total");
        if (s_.expanded == 0) {
            const int panel = chain_panel(s_.in_channels);
            sum_pixels(total, c, input(c, pixel));
            out(c, p, g) = total(c) * share;
            GlobalPool f{c, in_lanes_, panel, pixel, total, out};
            emit_groups(in_lanes_, in_lanes_, 1, in_lanes_);
            return schedule(f);
        }
        const PointwiseLayout layout = chain_head_layout(s_);
        const Gather read = [this](const Expr &entry, const Expr &lanes, const Expr &at) {
            return input(entry + lanes, at);
        };
        Conv5Pool f{c,
                    p,
                    pointwise("head", layout, one_part(layout.lanes, layout.vec), s_.in.pixels(), blob(),
                              gathered(layout.k, layout.k / kFour, machine().lane_operands, read), c, p,
                              epilogue_of(s_.expand_activation)),
                    pixel,
                    total,
                    {}};
        sum_pixels(total, c, f.pw.parts[0].out(c, pixel));
        out(c, p, g) = total(c) * share;
        f.out = out;
        emit_groups(layout.lanes, layout.lanes, 1, layout.lanes);
        schedule(f);
    }

    Var g{"g"};
    Step s_;
    int in_lanes_ = 0, average_lanes_ = 0;
};

}  // namespace shufflenet::generators

HALIDE_REGISTER_GENERATOR(shufflenet::generators::ChainGenerator, chain)
