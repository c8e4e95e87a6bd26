#include "layers.h"

namespace shufflenet::generators {

using Halide::cast;
using Halide::clamp;
using Halide::likely;
using Halide::max;
using Halide::select;

Pointwise pointwise(const std::string &name, const PointwiseLayout &layout, int pixels, const Blob &blob,
                    const Activation &in, Var c, Var p) {
    Pointwise f{layout, pixels, RDom(0, layout.k, name + "_k"), Func(name + "_sum"), Func(name)};
    const int vec = layout.vec;
    f.sum(c, p) = blob(layout.bias + c);
    f.sum(c, p) += blob(layout.weights + (c / vec * layout.k + f.k) * vec + c % vec) * in(f.k, p);
    f.out(c, p) = max(f.sum(c, p), 0.0F);
    return f;
}

Expr in_range(const Expr &at, int tap, int size, int out_size, int stride) {
    Expr inside = Halide::Internal::const_true();
    if (tap == 0) inside = inside && at >= 0;
    if (tap == 2 && (out_size - 1) * stride + 1 >= size) inside = inside && at < size;
    return inside;
}

Depthwise depthwise(const std::string &name, const WindowLayout &layout, Size in, int stride, const Blob &blob,
                    const Activation &input, Var c, Var x, Var y, Var p) {
    const Size out = stride == 2 ? halved(in) : in;
    Depthwise f{layout, in, out, stride, Func(name + "_rows"), Func(name)};
    const int vec = layout.vec;
    Expr sum = blob(layout.bias + c);
    for (int ky = 0; ky < 3; ++ky) {
        for (int kx = 0; kx < 3; ++kx) {
            const Expr iy = y * stride + ky - 1;
            const Expr ix = x * stride + kx - 1;
            const Expr inside =
                in_range(iy, ky, in.height, out.height, stride) && in_range(ix, kx, in.width, out.width, stride);
            const Expr pixel = clamp(iy, 0, in.height - 1) * in.width + clamp(ix, 0, in.width - 1);
            const Expr weight = blob(layout.weights + (c / vec * layout.taps + ky * 3 + kx) * vec + c % vec);
            sum += weight * select(inside, likely(input(c, pixel)), 0.0F);
        }
    }
    f.rows(c, x, y) = sum;
    f.out(c, p) = f.rows(c, p % out.width, p / out.width);
    return f;
}

}  // namespace shufflenet::generators
