// The same as plain.c through the C++ interface.
#include <cstdio>
#include <vector>

#include "cifar10_x0_5.h"
#include "shufflenet/model.h"

// A constant, so that a program can plan its memory.
static_assert(CIFAR10_X0_5_ARENA_BYTES > sizeof(float) * 3 * CIFAR10_X0_5_HEIGHT * CIFAR10_X0_5_WIDTH);

int main() {
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
    if (model.info().arena_bytes != CIFAR10_X0_5_ARENA_BYTES) {
        std::fprintf(stderr, "arena: %zu bytes, not %d\n", model.info().arena_bytes, CIFAR10_X0_5_ARENA_BYTES);
        return 1;
    }
    for (const float logit : logits) std::printf("%a\n", static_cast<double>(logit));
}
