/* A shared library with a function of its own, which uses a model. */
#include <stddef.h>

#include "pets.h"

int plugin_classes(void);

int plugin_classes(void) {
    pets_model *model;
    int classes;
    if (pets_open(&model, NULL, 1, NULL, 0) != 0) return -1;
    classes = pets_classes(model);
    pets_close(model);
    return classes;
}
