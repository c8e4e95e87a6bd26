/* A program in C: opens the embedded model, runs a ramp, prints the logits. */
#include <stdio.h>

#include "cifar10_x0_5.h"

#define INPUT (3 * CIFAR10_X0_5_HEIGHT * CIFAR10_X0_5_WIDTH)

int main(void) {
    static float input[INPUT];
    float logits[CIFAR10_X0_5_CLASSES];
    char error[200] = "";
    cifar10_x0_5_model *model = NULL;
    int i;
    for (i = 0; i < INPUT; ++i) input[i] = (float)(i % 251) / 125 - 1;
    if (cifar10_x0_5_open(&model, NULL, 2, error, sizeof error) != 0) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    if (cifar10_x0_5_run(model, input, 1, logits) != 0) {
        fprintf(stderr, "%s\n", cifar10_x0_5_error(model));
        return 1;
    }
    for (i = 0; i < cifar10_x0_5_classes(model); ++i) printf("%a\n", (double)logits[i]);
    cifar10_x0_5_close(model);
    return 0;
}
