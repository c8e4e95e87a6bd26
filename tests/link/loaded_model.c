/* A shared library with a model in it. */
#include "cifar10_x0_5.h"

const void *const loaded_model_functions[] = {(const void *)cifar10_x0_5_open, (const void *)cifar10_x0_5_run,
                                              (const void *)cifar10_x0_5_close};
