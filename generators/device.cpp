// The kernels of a device: what a kernel is for the CPU, for all images of a batch in one launch.
//
// A plane lies as [image][pixel][kPlane], so that a table's entry finds a channel of the first image and the others
// follow in equal steps. How many images a plane has room for only the distance of planes that are written depends on.
#include <stdexcept>
#include <utility>

#include "buffers.h"
#include "build.h"
#include "kernels.h"
#include "pipeline.h"
#include "schedules/schedules.h"

namespace shufflenet::generators {

namespace {

using Halide::unsafe_promise_clamped;
using networks::Kernel;
using networks::KernelKind;
using schedules::Schedule;

[[noreturn]] void refuse(const Kernel &kernel) {
    throw std::runtime_error("kernel " + networks::key(kernel) + ": devices have no kernel of this kind");
}

class DeviceBuilder : KernelBuffers {
  public:
    DeviceBuilder(const Kernel &kernel, const Schedule &schedule)
        : KernelBuffers(kernel, kernel.kind == KernelKind::kLinear ? 3 : 1), schedule_(schedule) {
        if (k_.kind == KernelKind::kLinear) {
            fix(in_, 0, kPlane, 1);
            in_.dim(1).set_min(0).set_stride(kPlane);
            in_.dim(2).set_min(0).set_stride(in_.dim(2).stride() / kPlane * kPlane);
        }
        // A caller's images lie anywhere.
        if (k_.kind != KernelKind::kStem) in_.set_host_alignment(sizeof(float) * kLineFloats);
    }

    KernelPipeline build() {
        define();
        return {Halide::Pipeline(std::vector<Func>{outputs_[0], outputs_[1]}),
                in_,
                table_,
                weights_,
                elements_,
                {part()},
                {}};
    }

  private:
    void define() {
        if (k_.groups > 1 || k_.middle_groups > 1 || k_.shortcut || k_.element != Element::kF32) refuse(k_);
        switch (k_.kind) {
        case KernelKind::kStem:
            return define_stem();
        case KernelKind::kPointwise:
            return define_pointwise();
        case KernelKind::kUnit:
            return k_.expands() ? refuse(k_) : define_separable();
        case KernelKind::kPooledPointwise:
            return define_pooled();
        case KernelKind::kGlobalPool:
            return define_global_pool();
        case KernelKind::kLinear:
            return define_linear();
        default:
            refuse(k_);
        }
    }

    /// A thread computes four lanes, whatever their number: all those of the planes.
    ChannelPart part() const { return {0, k_.planes() * kPlane, kPlane}; }

    // Buffers.

    void emit(const Func &stored, const PlaneVars &planes) {
        outputs_[0] = stored;
        auto out = stored.output_buffer();
        fix(out, 0, kPlane, 1);
        fix(out, 1, k_.out.pixels(), kPlane);
        out.dim(2).set_bounds(0, k_.planes()).set_stride(out.dim(2).stride() / kPlane * kPlane);
        out.dim(3).set_min(0).set_stride(kPlane * k_.out.pixels());
        out.set_host_alignment(sizeof(float) * kLineFloats);
        outputs_[1] = nothing({planes.lane, p, planes.plane, planes.group});
    }
    template <typename Layer>
    void emit(Layer &f) {
        store_in_planes(f, p, {n});
        emit(f.parts[0].out, *f.planes);
    }

    // What kernels read.

    Blob blob() {
        return [this](const Expr &i) { return weights_(i); };
    }
    /// The channels that a convolution reads through the table.
    std::vector<Summands> channels() {
        return {{k_.summands(), 1, [this](const Expr &entry, const Expr &pixel) {
                     const Expr at = table_(tables_.first_channel() + entry) + (n * k_.in.pixels() + pixel) * kPlane;
                     return in_(unsafe_promise_clamped(at, 0, in_.dim(0).extent() - 1));
                 }}};
    }
    /// A lane of the planes whose offsets the table has, as whole vectors.
    Expr in_plane(const Expr &lane, const Expr &pixel) {
        const Expr vector = table_(lane / kPlane) / kPlane + n * k_.in.pixels() + pixel;
        return in_(unsafe_promise_clamped(vector, 0, in_.dim(0).extent() / kPlane - 1) * kPlane + lane % kPlane);
    }

    // Kernels.

    void define_stem() {
        const auto image = [this](const Expr &ix, const Expr &iy, const Expr &ci) {
            return in_(ix + iy * k_.in.width + (n * k_.in_channels + ci) * k_.in.pixels());
        };
        Stem f = stem("stem", layouts_[0], {part()}, k_, blob(), image, c, x, y, p, {n});
        emit(f);
        schedule_.apply(f);
    }

    Pointwise pointwise_of_channels() {
        return pointwise("pw", layouts_[0], {part()}, k_.in.pixels(), blob(), channels(), c, p, epilogue(k_.activation),
                         {n});
    }

    void define_pointwise() {
        Pointwise pw = pointwise_of_channels();
        emit(pw);
        SingleLayer f{c, x, y, p, k_.out, std::move(pw)};
        schedule_.apply(f);
    }

    void define_separable() {
        const auto read = [this](const Expr &lane, const Expr &pixel) { return in_plane(lane, pixel); };
        Depthwise dw = depthwise("dw", layouts_[0], whole_vectors(k_.middle, kPlane), k_.in, k_.window, blob(), {read},
                                 c, x, y, p, epilogue(k_.second), {n});
        const auto filtered = [this, out = dw.parts[0].out](const Expr &entry, const Expr &pixel) {
            const Expr lane = table_(tables_.first_lane() + entry);
            return out(unsafe_promise_clamped(lane, 0, k_.middle_planes() * kPlane - 1), pixel, n);
        };
        Pointwise pw = pointwise("pw", layouts_[1], {part()}, k_.out.pixels(), blob(),
                                 {{k_.last_summands, 1, filtered}}, c, p, epilogue(k_.activation), {n});
        emit(pw);
        Separable f{c, x, y, p, dw, pw};
        schedule_.apply(f);
    }

    void define_pooled() {
        PooledPointwise f{c, p, pointwise_of_channels(), RDom(0, k_.in.pixels(), "pixel"), Func("total"), {}, planes_};
        sum_pixels(f.total, {c, n}, f.pw.parts[0].out(c, f.pixel, n));
        Func mean("mean");
        mean(c, p, n) = f.total(c, n) * (1.0F / static_cast<float>(k_.in.pixels()));
        f.out = in_planes(mean, p, planes_, {n});
        emit(f.out, planes_);
        schedule_.apply(f);
    }

    void define_global_pool() {
        const auto &[lane, plane, image] = planes_;
        GlobalPool f{planes_, k_.in_planes, RDom(0, k_.in.pixels(), "pixel"), Func("total"), Func("mean")};
        const Expr vector = table_(plane) / kPlane + image * k_.in.pixels() + f.pixel;
        const Expr first = unsafe_promise_clamped(vector, 0, in_.dim(0).extent() / kPlane - 1) * kPlane;
        sum_pixels(f.total, {lane, plane, image}, in_(first + lane));
        const Expr mean = f.total(lane, plane, image) * (1.0F / static_cast<float>(k_.in.pixels()));
        f.out(lane, p, plane, image) = activated(mean, k_.activation);
        emit(f.out, planes_);
        schedule_.apply(f);
    }

    void define_linear() {
        // Any class count gives the same kernel: offsets within the blob follow from its size.
        const WeightLayout &one = layouts_[0];
        FullyConnected f{c, n, one, RDom(0, one.rows, "k"), Func("linear_sum"), Func("linear"), {}, {}};
        const Blob read = blob();
        const Expr lanes = weights_.dim(0).extent() / (one.rows + 1) / kLineFloats * kLineFloats;
        const Expr weight = read(lanes + (c / one.panel * one.rows + f.k) * one.panel + c % one.panel);
        const int row = k_.in_planes * kPlane;
        const Expr lane = k_.ordered ? unsafe_promise_clamped(table_(f.k), 0, row - 1) : Expr(f.k);
        f.sum(c, n) = read(c);
        f.sum(c, n) += weight * in_(lane % kPlane, n, lane / kPlane);
        f.out(c, n) = activated(f.sum(c, n), k_.activation);
        auto out = f.out.output_buffer();
        f.blob = buffer_of(read);
        f.images = out.dim(1).extent();
        out.dim(0).set_min(0).set_stride(1);
        out.dim(1).set_min(0).set_stride(out.dim(0).extent());
        outputs_[0] = f.out;
        outputs_[1] = nothing({c, n});
        schedule_.apply(f);
    }

    const Schedule &schedule_;

    Var c{"c"}, x{"x"}, y{"y"}, p{"p"}, n{"n"};
    PlaneVars planes_;
};

}  // namespace

KernelPipeline make_device_pipeline(const Kernel &kernel, const Halide::Target &target,
                                    const schedules::Tuning &tuning) {
    const schedules::Machine machine = schedules::machine_of(target, 0);
    const auto schedule = schedules::gpu_schedule(machine, tuning);
    return DeviceBuilder(kernel, *schedule).build();
}

BuiltKernel build_device_kernel(const Kernel &kernel, const Halide::Target &target, const schedules::Tuning &tuning,
                                const std::string &symbol, const std::string &path) {
    KernelPipeline built = make_device_pipeline(kernel, target, tuning);
    built.pipeline.compile_to_assembly(path, built.arguments(), symbol, target);
    return {{built.parts[0].lanes, 0}, 0};
}

}  // namespace shufflenet::generators
