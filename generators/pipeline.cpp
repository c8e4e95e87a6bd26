// Each kind of kernel, from the layer functions.
#include "pipeline.h"

#include <stdexcept>
#include <utility>

#include "buffers.h"
#include "kernels.h"
#include "schedules/prefetch.h"

namespace shufflenet::generators {

namespace {

using Halide::cast;
using Halide::clamp;
using Halide::max;
using Halide::select;
using Halide::strict_float;
using Halide::unsafe_promise_clamped;
using networks::Kernel;
using networks::KernelKind;
using schedules::Schedule;

class Builder : KernelBuffers {
  public:
    Builder(const Kernel &kernel, const schedules::Machine &machine, const Schedule &schedule)
        : KernelBuffers(kernel, 1),
          m_(machine),
          schedule_(schedule),
          parts_(networks::out_parts(kernel, machine.vectors())) {}

    KernelPipeline build() {
        define();
        return {Halide::Pipeline(std::vector<Func>{outputs_[0], outputs_[1]}),
                in_,
                table_,
                weights_,
                elements_,
                parts_,
                {}};
    }

  private:
    void define() {
        switch (k_.kind) {
        case KernelKind::kStem:
            return define_stem();
        case KernelKind::kUnit:
            return k_.expands() ? define_unit() : define_separable();
        case KernelKind::kPointwise:
            return define_single(pointwise_of_channels());
        case KernelKind::kPooledPointwise:
            return define_pooled();
        case KernelKind::kConvolution:
            return define_convolution();
        case KernelKind::kDepthwise:
        case KernelKind::kMaxPool:
        case KernelKind::kAveragePool:
            return define_window();
        case KernelKind::kGlobalPool:
            return define_global_pool();
        case KernelKind::kAdd:
        case KernelKind::kResize:
        case KernelKind::kActivation:
        case KernelKind::kCopy:
            return define_plane_by_plane();
        case KernelKind::kSoftmax:
            return define_softmax();
        case KernelKind::kLinear:
            return define_linear();
        }
    }

    // Buffers.

    /// The part `number` of the output, in planes.
    void emit(int number, const Func &stored) {
        const ChannelPart &part = parts_.at(number);
        const int planes = k_.planes() * kPlane;
        Func &out = outputs_[number] = stored;
        fix(out.output_buffer(), 0, std::min(part.lanes, kPlane), 1);
        fix(out.output_buffer(), 1, k_.out.pixels(), kPlane);
        fix(out.output_buffer(), 2, planes_of(part.lanes), kPlane * k_.out.pixels());
        fix(out.output_buffer(), 3, k_.groups, planes * k_.out.pixels());
        if (parts_.size() == 1) outputs_[1] = nothing({planes_.lane, p, planes_.plane, planes_.group});
    }
    /// The output of a layer, whose Funcs have a dimension of groups if `group` is one.
    template <typename Layer>
    void emit(Layer &f, const std::vector<Var> &group = {}) {
        store_in_planes(f, p, group);
        for (size_t i = 0; i < f.parts.size(); ++i) emit(static_cast<int>(i), f.parts[i].out);
    }

    // What kernels read.

    /// Entry `entry` of the table, the offset of `side` floats at every pixel of a tensor.
    Expr offset(const Expr &entry, int side, Size size) {
        return unsafe_promise_clamped(table_(entry), 0, in_.dim(0).extent() - (size.pixels() - 1) * kPlane - side);
    }
    /// Lane `lane` of the planes whose offsets start at `entry`.
    Expr in_plane(const Expr &entry, const Expr &lane, const Expr &pixel, Size size) {
        return in_(offset(entry + lane / kPlane, kPlane, size) + lane % kPlane + pixel * kPlane);
    }
    /// The channels that a convolution reads through the table.
    Gather channels(int each, const Expr &group) {
        return [this, each, group](const Expr &entry, const Expr &lanes, const Expr &pixel) {
            const int side = Halide::Internal::is_const_zero(lanes) ? 1 : kFour;
            return in_(offset(tables_.first_channel() + group * each + entry, side, k_.in) + lanes + pixel * kPlane);
        };
    }
    std::vector<Activation> planes_of_parts() {
        std::vector<Activation> all;
        for (const ChannelPart &part : parts_) {
            all.emplace_back([this, first = part.first](const Expr &lane, const Expr &pixel) {
                return in_plane(0, first + lane, pixel, k_.in);
            });
        }
        return all;
    }
    /// Layer `number`'s weights, of group `group`.
    Blob blob(int number, const Expr &group) {
        return
            [this, stride = layouts_.at(number).stride, group](const Expr &i) { return weights_(i + group * stride); };
    }
    /// A dimension of groups, if there are any, and its value.
    std::vector<Var> dimension(int groups) const { return groups > 1 ? std::vector<Var>{g} : std::vector<Var>{}; }
    Expr number(int groups) const { return groups > 1 ? Expr(g) : Expr(0); }

    /// The epilogue of a kernel's last layer.
    Epilogue joined() {
        if (!k_.shortcut) return epilogue(k_.activation);
        return [this](const Expr &sum, const Expr &lane, const Expr &pixel) {
            const Expr first = tables_.first_addend() + number(k_.groups) * k_.planes();
            return activated(sum + in_plane(first, lane, pixel, k_.out), k_.activation);
        };
    }

    // Kernels.

    void define_stem() {
        const auto image = [this](const Expr &ix, const Expr &iy, const Expr &ci) {
            return in_(ix + iy * k_.in.width + ci * k_.in.pixels());
        };
        Stem f = stem("stem", layouts_[0], parts_, k_, blob(0, 0), image, c, x, y, p);
        emit(f);
        schedule_.apply(f);
    }

    Pointwise expansion(const std::vector<ChannelPart> &parts) {
        const Expr group = number(k_.middle_groups);
        return pointwise("pw1", layouts_[0], parts, k_.in.pixels(), blob(0, group),
                         gathered(k_.summands(), k_.quads, m_.lane_operands, channels(k_.summands(), group)), c, p,
                         epilogue(k_.first), dimension(k_.middle_groups));
    }
    /// The summands of a unit's last convolution, where they are found through the table.
    std::vector<Summands> ordered(const Func &dw, int quads) {
        const int each = k_.middle_planes() * kPlane;
        const Gather read = [this, dw, each](const Expr &entry, const Expr &lanes, const Expr &pixel) {
            const Expr lane = table_(tables_.first_lane() + number(k_.groups) * k_.last_summands + entry) + lanes;
            const Expr at = unsafe_promise_clamped(lane, 0, k_.middle_groups * each - 1);
            return k_.middle_groups > 1 ? dw(at % each, pixel, at / each) : dw(at, pixel);
        };
        return gathered(k_.last_summands, quads, m_.lane_operands, read);
    }
    /// A unit's last convolution, layer `number`.
    Pointwise projection(int layer, const std::vector<Summands> &in) {
        Pointwise f = pointwise("pw2", layouts_[layer], parts_, k_.out.pixels(), blob(layer, number(k_.groups)), in, c,
                                p, joined(), dimension(k_.groups));
        emit(f, f.group);
        return f;
    }

    void define_unit() {
        const std::vector<ChannelPart> middle = networks::middle_parts(k_, m_.vectors());
        Pointwise pw1 = expansion(middle);
        std::vector<Activation> expanded;
        for (const Pointwise::Part &part : pw1.parts) {
            expanded.emplace_back([this, out = part.out](const Expr &lane, const Expr &pixel) {
                return k_.middle_groups > 1 ? out(lane, pixel, g) : out(lane, pixel);
            });
        }
        Depthwise dw = depthwise("dw", layouts_[1], middle, k_.in, k_.window, blob(1, number(k_.middle_groups)),
                                 expanded, c, x, y, p, epilogue(k_.second), pw1.group);
        dw.groups = k_.middle_groups;
        Pointwise pw2 =
            projection(2, k_.ordered ? ordered(dw.parts.at(0).out, 0) : dw.summands(k_.middle, m_.lane_operands));
        Unit f{c, x, y, p, pw1, dw, pw2};
        schedule_.apply(f);
    }

    void define_separable() {
        const auto read = [this](const Expr &lane, const Expr &pixel) { return in_plane(0, lane, pixel, k_.in); };
        Depthwise dw = depthwise("dw", layouts_[0], networks::middle_parts(k_, m_.vectors()), k_.in, k_.window,
                                 blob(0, 0), {read}, c, x, y, p, epilogue(k_.second));
        Separable f{c, x, y, p, dw, projection(1, ordered(dw.parts.at(0).out, k_.quads))};
        schedule_.apply(f);
    }

    /// A pointwise convolution alone, as yet not stored.
    Pointwise pointwise_of_channels() {
        const Expr group = number(k_.groups);
        return pointwise("pw", layouts_[0], parts_, k_.in.pixels(), blob(0, group),
                         gathered(k_.summands(), k_.quads, m_.lane_operands, channels(k_.summands(), group)), c, p,
                         joined(), dimension(k_.groups));
    }
    void define_single(Pointwise pw) {
        emit(pw, pw.group);
        SingleLayer f{c, x, y, p, k_.out, std::move(pw)};
        schedule_.apply(f);
    }

    /// The mean over all pixels, without storing these.
    void define_pooled() {
        PooledPointwise f{c, p, pointwise_of_channels(), RDom(0, k_.in.pixels(), "pixel"), Func("total"), {}, planes_};
        std::vector<Var> at = {c};
        std::vector<Expr> all = {c, f.pixel};
        if (k_.groups > 1) at.push_back(g), all.emplace_back(g);
        sum_pixels(f.total, at, f.pw.parts.at(0).out(all));
        Func mean("mean");
        const Expr total = k_.groups > 1 ? f.total(c, g) : f.total(c);
        mean(at_pixel(at)) = total * (1.0F / static_cast<float>(k_.in.pixels()));
        f.out = in_planes(mean, p, planes_, dimension(k_.groups));
        emit(0, f.out);
        schedule_.apply(f);
    }
    /// (c, p) or (c, p, group) from the same without p.
    std::vector<Var> at_pixel(std::vector<Var> at) const {
        at.insert(at.begin() + 1, p);
        return at;
    }

    void define_convolution() {
        if (k_.groups > 1) throw std::runtime_error("a convolution with a window and groups");
        // The copy of the input has whole vectors, whose last channels do not count.
        const auto read = [this](const Expr &channel, const Expr &pixel) {
            return channels(k_.in_channels, 0)(min(channel, k_.in_channels - 1), 0, pixel);
        };
        Convolution conv = convolution("conv", layouts_[0], parts_, k_.in_channels, round_up(k_.in_channels, kPlane),
                                       k_.in, k_.window, blob(0, 0), read, c, x, y, p, joined());
        emit(conv);
        SingleLayer f{c, x, y, p, k_.out, std::move(conv)};
        schedule_.apply(f);
    }

    void define_window() {
        const std::vector<Activation> in = planes_of_parts();
        Depthwise dw;
        if (k_.kind == KernelKind::kDepthwise) {
            dw = depthwise("dw", layouts_[0], parts_, k_.in, k_.window, blob(0, 0), in, c, x, y, p, joined());
        } else if (k_.kind == KernelKind::kMaxPool) {
            dw = max_pool("pool", parts_, k_.in, k_.window, in, c, x, y, p, joined());
        } else {
            dw = average_pool("pool", parts_, k_.in, k_.window, k_.counts_padding, in, c, x, y, p, joined());
        }
        emit(dw);
        SingleLayer f{c, x, y, p, k_.out, std::move(dw)};
        schedule_.apply(f);
    }

    void define_global_pool() {
        const Var &lane = planes_.lane, &plane = planes_.plane, &group = planes_.group;
        GlobalPool f{planes_, k_.in_planes, RDom(0, k_.in.pixels(), "pixel"), Func("total"), Func("mean")};
        sum_pixels(f.total, {lane, plane}, in_(offset(plane, kPlane, k_.in) + lane + f.pixel * kPlane));
        const Expr mean = f.total(lane, plane) * (1.0F / static_cast<float>(k_.in.pixels()));
        f.out(lane, p, plane, group) = activated(mean, k_.activation);
        emit(0, f.out);
        schedule_.apply(f);
    }

    /// Pixels of a side that an output pixel is made of, and how much the second one counts.
    struct Neighbours {
        Expr first, second, share;
    };
    Neighbours neighbours(const Expr &at, int in, int out) const {
        const networks::ResizePosition position = resize_position(k_.resize, in, out);
        const Expr scaled = at * position.scale + position.offset, below = scaled / position.divisor;
        const Expr share = cast<float>(scaled % position.divisor) * (1.0F / static_cast<float>(position.divisor));
        return {clamp(below, 0, in - 1), clamp(below + 1, 0, in - 1), share};
    }
    /// A plane's lane in the size of the output.
    Expr resized(const Expr &lane, const Expr &plane) {
        const auto read = [&](const Expr &row, const Expr &column) {
            return in_(offset(plane, kPlane, k_.in) + lane + (row * k_.in.width + column) * kPlane);
        };
        const Neighbours rows = neighbours(p / k_.out.width, k_.in.height, k_.out.height);
        const Neighbours columns = neighbours(p % k_.out.width, k_.in.width, k_.out.width);
        if (k_.resize.mode == networks::Resize::Mode::kNearest) return read(rows.first, columns.first);
        const auto mixed = [](const Expr &a, const Expr &b, const Expr &share) { return a + (b - a) * share; };
        return mixed(mixed(read(rows.first, columns.first), read(rows.first, columns.second), columns.share),
                     mixed(read(rows.second, columns.first), read(rows.second, columns.second), columns.share),
                     rows.share);
    }

    void define_softmax() {
        const Var &lane = planes_.lane, &plane = planes_.plane, &group = planes_.group;
        constexpr float kFarBelow = -1e30F;
        Softmax f{planes_,       c,           p,          RDom(0, tables_.channels, "k"), Func("in"), Func("most"),
                  Func("value"), Func("sum"), Func("out")};
        const Expr last = in_.dim(0).extent() - (k_.in.pixels() - 1) * kPlane - 1;
        const Expr at = unsafe_promise_clamped(table_(c), -1, last);
        f.in(c, p) = select(at < 0, kFarBelow, in_(max(at, 0) + p * kPlane));
        f.most(p) = kFarBelow;
        f.most(p) = max(f.most(p), f.in(f.k, p));
        f.value(c, p) = exp_or_nan(f.in(c, p) - f.most(p));
        f.sum(p) = 0.0F;
        f.sum(p) += f.value(f.k, p);
        f.out(lane, p, plane, group) = f.value(plane * kPlane + lane, p) / f.sum(p);
        emit(0, f.out);
        schedule_.apply(f);
    }

    void define_plane_by_plane() {
        const Var &lane = planes_.lane, &plane = planes_.plane, &group = planes_.group;
        PlaneByPlane f{planes_, p, Func(k_.kind == KernelKind::kAdd ? "sum" : "copy")};
        const auto operand = [&](int first) { return in_(offset(first + plane, kPlane, k_.in) + lane + p * kPlane); };
        Expr value;
        if (k_.kind == KernelKind::kAdd) {
            value = operand(0) + operand(tables_.first_addend());
        } else if (k_.kind == KernelKind::kResize) {
            value = resized(lane, plane);
        } else if (k_.kind == KernelKind::kActivation) {
            value = operand(0);
        } else if (k_.in_planes > 0) {
            const Expr entry = plane * networks::kCopyEntries;
            const auto run = [&](int number) { return in_(offset(entry + number, kPlane, k_.in) + lane + p * kPlane); };
            value = select(lane < table_(entry + networks::kFirstLanes), run(networks::kFirstRun),
                           run(networks::kSecondRun));
        } else {
            // What is beyond the last lane does not count.
            const Expr entry = min(plane * kPlane + lane, k_.lanes - 1);
            value = in_(offset(entry, 1, k_.in) + p * kPlane);
        }
        f.out(lane, p, plane, group) = activated(value, k_.activation);
        emit(0, f.out);
        schedule_.apply(f);
    }

    void define_linear() {
        // Any class count gives the same kernel: offsets within the blob follow from its size.
        const WeightLayout &one = layouts_[0];
        const int row_floats = k_.in_planes > 0 ? k_.in_planes * kPlane : round_up(k_.in_channels, kPlane);
        Var n("n");
        FullyConnected f{c, n, one, RDom(0, one.rows, "k"), Func("linear_sum"), Func("linear"), {}, {}};
        const Blob read = blob(0, 0);
        const bool floats = one.element == Element::kF32;
        const int in_float = one.in_float(), constants = in_float * one.constants();
        const Expr lanes = weights_.dim(0).extent() * in_float / (one.rows + constants);
        const Expr at = lanes * constants + (c / one.panel * one.rows + f.k) * one.panel + c % one.panel;
        const Expr weight = floats ? read(at) : cast<float>(elements_(at));
        const Expr lane = k_.ordered ? unsafe_promise_clamped(table_(f.k), 0, row_floats - 1) : Expr(f.k);
        f.sum(c, n) = floats ? read(c) : Expr(0.0F);
        const Expr product = weight * in_(lane + n * row_floats);
        // Strict: beginning at zero, sums were added up in other orders in other loops of the schedule.
        f.sum(c, n) = floats ? f.sum(c, n) + product : strict_float(f.sum(c, n) + product);
        const Expr scaled = strict_float(f.sum(c, n) * read(lanes + c) + read(c));
        f.out(c, n) = activated(floats ? f.sum(c, n) : scaled, k_.activation);
        f.blob = floats ? buffer_of(read) : elements_.parameter();
        f.images = f.out.output_buffer().dim(1).extent();
        f.out.output_buffer().dim(0).set_min(0).set_stride(1);
        f.out.output_buffer().dim(1).set_min(0).set_stride(f.out.output_buffer().dim(0).extent());
        outputs_[0] = f.out;
        outputs_[1] = nothing({c, n});
        schedule_.apply(f);
    }

    const schedules::Machine &m_;
    const Schedule &schedule_;
    std::vector<ChannelPart> parts_;

    Var c{"c"}, x{"x"}, y{"y"}, p{"p"}, g{"g"};
    PlaneVars planes_;
};

std::unique_ptr<Schedule> schedule_for(const Halide::Target &target, const schedules::Machine &machine,
                                       const schedules::Tuning &tuning, bool reference) {
    if (reference) return schedules::reference_schedule();
    return target.arch == Halide::Target::ARM ? schedules::arm_schedule(machine, tuning)
                                              : schedules::x86_schedule(machine, tuning);
}

}  // namespace

KernelPipeline make_pipeline(const Kernel &kernel, const schedules::Machine &machine, const Schedule &schedule) {
    KernelPipeline built = Builder(kernel, machine, schedule).build();
    built.pipeline.add_custom_lowering_pass(new schedules::SpreadPrefetches);
    built.scratch = std::make_shared<schedules::ScratchBytes>();
    built.pipeline.add_custom_lowering_pass(built.scratch.get(), [keep = built.scratch] {});
    return built;
}

KernelPipeline make_pipeline(const Kernel &kernel, const Halide::Target &target, int fma_units,
                             const schedules::Tuning &tuning, bool reference) {
    const schedules::Machine machine = schedules::machine_of(target, fma_units);
    return make_pipeline(kernel, machine, *schedule_for(target, machine, tuning, reference));
}

}  // namespace shufflenet::generators
