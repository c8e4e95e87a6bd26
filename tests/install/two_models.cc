// Two models, each with the Halide runtime of its library, and Halide's compiler with its own, all at once:
// two_models WEIGHTS.safetensors. Prints the logits of the small model with its embedded weights, then with those of
// the file; whatever runs beside them, the bits are the same.
#include <Halide.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "cifar10_x0_5.h"
#include "shufflenet/model.h"
#include "small.h"

namespace {

constexpr int kRounds = 50;

void check(const shufflenet::Status &status) {
    if (status.ok()) return;
    std::fprintf(stderr, "%s\n", status.message().c_str());
    std::exit(1);
}

void expect(bool good, const char *what) {
    if (good) return;
    std::fprintf(stderr, "%s\n", what);
    std::exit(1);
}

class Runner {
  public:
    explicit Runner(const shufflenet_descriptor &descriptor, const char *weights = nullptr) {
        check(model_.open(descriptor, 2));
        check(weights == nullptr ? model_.load_embedded_weights() : model_.load_weights(std::string(weights)));
        const shufflenet::ModelInfo info = model_.info();
        for (int i = 0; i < 3 * info.height * info.width; ++i) input_.push_back(static_cast<float>(i % 251) / 125 - 1);
        logits_.resize(info.classes);
    }
    std::vector<float> run() {
        check(model_.run(input_, 1, logits_));
        return logits_;
    }

  private:
    shufflenet::Model model_;
    std::vector<float> input_, logits_;
};

/// A pipeline of the program's own, with threads of Halide's own pool and memory of its own allocator.
int64_t own_pipeline() {
    constexpr int kSize = 256;
    Halide::Func rows, sum;
    Halide::Var x, y;
    Halide::RDom r(0, kSize);
    rows(x, y) = Halide::cast<int64_t>(x + y);
    sum(y) += rows(r, y);
    rows.compute_root().parallel(y);
    sum.parallel(y).update().parallel(y);
    const Halide::Buffer<int64_t> sums = sum.realize({kSize});
    int64_t total = 0;
    for (int i = 0; i < kSize; ++i) total += sums(i);
    return total;
}

}  // namespace

int main(int, char **argv) {
    static_assert(SMALL_ARENA_BYTES < CIFAR10_X0_5_ARENA_BYTES);
    Runner small(small_descriptor), other(cifar10_x0_5_descriptor), file(small_descriptor, argv[1]);
    const std::vector<float> of_small = small.run(), of_other = other.run(), of_file = file.run();
    // Sum of x + y for both from 0 to 255.
    constexpr int64_t kTotal = int64_t{256} * 256 * 255;
    {
        const std::jthread first([&] {
            for (int i = 0; i < kRounds; ++i) expect(small.run() == of_small, "the small model was disturbed");
        });
        const std::jthread second([&] {
            for (int i = 0; i < kRounds; ++i) expect(other.run() == of_other, "the other model was disturbed");
        });
        for (int i = 0; i < 3; ++i) expect(own_pipeline() == kTotal, "the program's own pipeline was disturbed");
    }
    for (const float logit : of_small) std::printf("%a\n", static_cast<double>(logit));
    for (const float logit : of_file) std::printf("%a\n", static_cast<double>(logit));
}
