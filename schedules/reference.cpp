// No schedule: every Func at root, scalar, serial. Slow and obviously right.
#include "schedules.h"

namespace shufflenet::schedules {

namespace {

using generators::Convolution;
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
    void apply(Separable &f) const override {
        roots(f.dw);
        sums(f.pw);
    }
    void apply(Unit &f) const override {
        sums(f.pw1);
        for (Pointwise::Part &part : f.pw1.parts) root({part.out});
        roots(f.dw);
        sums(f.pw2);
    }
    void apply(PooledPointwise &f) const override {
        sums(f.pw);
        root({f.pw.parts[0].out, f.total});
    }
    // One by one: how many classes and images there are is not known.
    void apply(FullyConnected &f) const override { f.sum.compute_at(f.out, f.c); }
    void apply(SingleLayer &f) const override {
        std::visit([](auto &layer) { inner(layer); }, f.layer);
    }
    void apply(GlobalPool &f) const override { root({f.total}); }
    void apply(PlaneByPlane & /*f*/) const override {}
    void apply(Softmax &f) const override { root({f.in, f.most, f.value, f.sum}); }

  private:
    static void inner(Pointwise &f) { sums(f); }
    static void inner(Depthwise &f) {
        for (Depthwise::Part &part : f.parts) root({part.rows});
    }
    static void inner(Convolution &f) {
        root({f.padded});
        for (Convolution::Part &part : f.parts) root({part.sum, part.rows});
    }
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
