// No schedule: every Func at root, scalar, serial. Slow and obviously right.
#include "schedules.h"

namespace shufflenet::schedules {

namespace {

using generators::Depthwise;
using generators::Pointwise;
using Halide::Func;

void root(std::initializer_list<Func> funcs) {
    for (Func f : funcs) f.compute_root();
}

class Reference final : public Schedule {
  public:
    void apply(Stem &f) const override {
        for (Stem::Part &part : f.parts) root({part.sum, part.conv});
    }
    void apply(Branch1 &f) const override {
        roots(f.dw);
        sums(f.pw);
    }
    void apply(Branch2 &f) const override {
        sums(f.pw1);
        for (Pointwise::Part &part : f.pw1.parts) root({part.out});
        roots(f.dw);
        sums(f.pw2);
    }
    void apply(Conv5 &f) const override { sums(f.pw); }
    void apply(Conv5Pool &f) const override {
        sums(f.pw);
        root({f.pw.parts[0].out, f.total});
    }
    void apply(FullyConnected &f) const override { root({f.sum}); }

  private:
    static void sums(Pointwise &f) {
        for (Pointwise::Part &part : f.parts) root({part.sum});
    }
    static void roots(Depthwise &f) {
        for (Depthwise::Part &part : f.parts) root({part.rows, part.out});
    }
};

}  // namespace

std::unique_ptr<Schedule> reference_schedule() { return std::make_unique<Reference>(); }

}  // namespace shufflenet::schedules
