// No schedule: every Func at root, scalar, serial. Slow and obviously right.
#include "schedules.h"

namespace shufflenet::schedules {

namespace {

using Halide::Func;

void root(std::initializer_list<Func> funcs) {
    for (Func f : funcs) f.compute_root();
}

class Reference final : public Schedule {
  public:
    void apply(Stem &f) const override { root({f.sum, f.conv}); }
    void apply(Branch1 &f) const override { root({f.dw.rows, f.dw.out, f.pw.sum}); }
    void apply(Branch2 &f) const override { root({f.pw1.sum, f.pw1.out, f.dw.rows, f.dw.out, f.pw2.sum}); }
    void apply(Conv5 &f) const override { root({f.pw.sum}); }
    void apply(Conv5Pool &f) const override { root({f.pw.sum, f.pw.out, f.total}); }
    void apply(FullyConnected &f) const override { root({f.sum}); }
};

}  // namespace

std::unique_ptr<Schedule> reference_schedule() { return std::make_unique<Reference>(); }

}  // namespace shufflenet::schedules
