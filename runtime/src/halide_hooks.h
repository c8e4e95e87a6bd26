// Halide's runtime functions as kernels call them. The build gives halide_* of a model's library the names that
// SHUFFLENET_HALIDE says (cmake/rename_halide.cmake), so that these hooks concern this library alone: neither a
// program's own use of Halide nor another version of ours.
#pragma once

#include <HalideRuntime.h>

#include "shufflenet/version.h"

#define SHUFFLENET_JOIN_TOKENS(a, b) a##b
#define SHUFFLENET_JOIN(a, b) SHUFFLENET_JOIN_TOKENS(a, b)
/// halide_<name>, renamed.
#define SHUFFLENET_HALIDE(name) SHUFFLENET_JOIN(SHUFFLENET_JOIN(shufflenet_, SHUFFLENET_ABI), _halide_##name)
/// What the linker calls a hook that a test or bench replaces (--wrap), and its replacement.
#define SHUFFLENET_REAL_HALIDE(name) SHUFFLENET_JOIN(__real_, SHUFFLENET_HALIDE(name))
#define SHUFFLENET_WRAP_HALIDE(name) SHUFFLENET_JOIN(__wrap_, SHUFFLENET_HALIDE(name))

extern "C" {

void *SHUFFLENET_HALIDE(malloc)(void *context, size_t size);
void SHUFFLENET_HALIDE(free)(void *context, void *memory);
void SHUFFLENET_HALIDE(error)(void *context, const char *message);
int SHUFFLENET_HALIDE(do_par_for)(void *context, halide_task_t body, int first, int size, uint8_t *closure);

// In the libraries of models with DEVICES alone.
int SHUFFLENET_HALIDE(copy_to_device)(void *context, halide_buffer_t *buffer,
                                      const halide_device_interface_t *interface);
int SHUFFLENET_HALIDE(device_malloc)(void *context, halide_buffer_t *buffer,
                                     const halide_device_interface_t *interface);

#define SHUFFLENET_DEVICE_HOOKS(api)                                                                                  \
    int SHUFFLENET_HALIDE(api##_initialize_kernels)(void *context, void **state, const char *source, int size);       \
    int SHUFFLENET_HALIDE(api##_run)(void *context, void *state, const char *name, int bx, int by, int bz, int tx,    \
                                     int ty, int tz, int shared, size_t sizes[], void *values[], int8_t is_buffer[]); \
    void SHUFFLENET_HALIDE(api##_finalize_kernels)(void *context, void *state);                                       \
    const halide_device_interface_t *SHUFFLENET_HALIDE(api##_device_interface)();
SHUFFLENET_DEVICE_HOOKS(cuda)
SHUFFLENET_DEVICE_HOOKS(opencl)
#undef SHUFFLENET_DEVICE_HOOKS

}  // extern "C"
