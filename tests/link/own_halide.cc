// A program with a Halide runtime of its own, hooks set: the model neither calls them nor replaces that runtime.
#include <HalideRuntime.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cifar10_x0_5.h"
#include "shufflenet/model.h"

namespace {

int calls = 0;

void *count_malloc(void *, size_t size) {
    ++calls;
    return std::malloc(size);
}
void count_free(void *, void *memory) {
    ++calls;
    std::free(memory);
}
void count_error(void *, const char *) { ++calls; }
int count_task(void *, halide_task_t, int, uint8_t *) { return ++calls; }
int count_par_for(void *, halide_task_t, int, int, uint8_t *) { return ++calls; }
int count_features(int, const uint64_t *) { return ++calls; }

}  // namespace

int main() {
    halide_set_custom_malloc(count_malloc);
    halide_set_custom_free(count_free);
    halide_set_error_handler(count_error);
    halide_set_custom_do_task(count_task);
    halide_set_custom_do_par_for(count_par_for);
    halide_set_custom_can_use_target_features(count_features);

    std::vector<float> input(3 * CIFAR10_X0_5_HEIGHT * CIFAR10_X0_5_WIDTH), logits(CIFAR10_X0_5_CLASSES);
    for (size_t i = 0; i < input.size(); ++i) input[i] = static_cast<float>(i % 251) / 125 - 1;
    shufflenet::Model model;
    shufflenet::Status status = model.open(cifar10_x0_5_descriptor, 2);
    if (status.ok()) status = model.load_embedded_weights();
    if (status.ok()) status = model.run(input, 1, logits);
    if (!status.ok()) {
        std::fprintf(stderr, "%s\n", status.message().c_str());
        return 1;
    }
    const int calls_of_the_model = calls;
    halide_free(nullptr, halide_malloc(nullptr, 64));
    halide_error(nullptr, "counted");
    halide_do_par_for(nullptr, nullptr, 0, 1, nullptr);
    if (calls_of_the_model != 0 || calls != 4) {
        std::fprintf(stderr, "%d calls by the model, %d in all\n", calls_of_the_model, calls);
        return 1;
    }
    for (const float logit : logits) std::printf("%a\n", static_cast<double>(logit));
}
