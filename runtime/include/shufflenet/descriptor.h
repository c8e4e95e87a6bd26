/* What a generated model library tells the runtime: names, shapes, kernels and embedded data. Plain C. */
#ifndef SHUFFLENET_DESCRIPTOR_H
#define SHUFFLENET_DESCRIPTOR_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct halide_buffer_t;

/* The kernels of one instruction set. Each returns 0 or an error; the first argument is the runtime's context. `tail`
 * receives the channels that do not fill a vector; it lies in the same tensor as `out`, and may be empty. */
typedef int (*shufflenet_stem_fn)(const void *context, struct halide_buffer_t *in, struct halide_buffer_t *weights,
                                  struct halide_buffer_t *out, struct halide_buffer_t *tail);
typedef int (*shufflenet_branch_fn)(const void *context, struct halide_buffer_t *in, struct halide_buffer_t *table,
                                    struct halide_buffer_t *weights, struct halide_buffer_t *out,
                                    struct halide_buffer_t *tail);
typedef int (*shufflenet_conv5_fn)(const void *context, struct halide_buffer_t *in, struct halide_buffer_t *table,
                                   struct halide_buffer_t *weights, struct halide_buffer_t *out);
typedef int (*shufflenet_fc_fn)(const void *context, struct halide_buffer_t *in, int classes,
                                struct halide_buffer_t *weights, struct halide_buffer_t *out);

struct shufflenet_kernels {
    const char *isa; /* "sse41", "avx2", "avx512", "neon" */
    shufflenet_stem_fn stem;
    /* Stages 2, 3, 4: both branches of the downsampling unit; branch 2 of a basic unit, NULL where there is none. */
    shufflenet_branch_fn down_branch1[3];
    shufflenet_branch_fn down_branch2[3];
    shufflenet_branch_fn basic[3];
    shufflenet_conv5_fn conv5;
    shufflenet_conv5_fn conv5_pool;
    shufflenet_fc_fn fc;
};

struct shufflenet_descriptor {
    const char *name;
    const char *network;
    int height, width, classes;
    /* From the plainest instruction set to the best. */
    const struct shufflenet_kernels *kernels;
    int kernels_count;
    /* Embedded safetensors file and JSON; NULL where nothing is embedded. */
    const unsigned char *weights;
    const unsigned char *weights_end;
    const char *metadata;
};

#ifdef __cplusplus
}
#endif

#endif
