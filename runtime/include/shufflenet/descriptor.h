/** @file
 * What a generated model library tells the runtime: names, shapes, kernels and embedded data. Plain C. Programs pass
 * its address on, and need not look inside. */
#ifndef SHUFFLENET_DESCRIPTOR_H
#define SHUFFLENET_DESCRIPTOR_H

#include <stddef.h>

#include "shufflenet/version.h"

#ifdef __cplusplus
extern "C" {
#endif

struct halide_buffer_t;

/** A kernel: returns 0 or an error; the first argument is the runtime's context. `tail` receives the channels that do
 * not fill a vector; it lies in the same tensor as `out`, and may be empty. */
typedef int (*shufflenet_stem_fn)(const void *context, struct halide_buffer_t *in, struct halide_buffer_t *weights,
                                  struct halide_buffer_t *out, struct halide_buffer_t *tail);
/** A branch of a unit; `table` says where its input channels are. */
typedef int (*shufflenet_branch_fn)(const void *context, struct halide_buffer_t *in, struct halide_buffer_t *table,
                                    struct halide_buffer_t *weights, struct halide_buffer_t *out,
                                    struct halide_buffer_t *tail);
/** conv5, alone or with the global average pool. */
typedef int (*shufflenet_conv5_fn)(const void *context, struct halide_buffer_t *in, struct halide_buffer_t *table,
                                   struct halide_buffer_t *weights, struct halide_buffer_t *out);
/** A step of a comparison network, or several that are computed together. */
typedef int (*shufflenet_step_fn)(const void *context, struct halide_buffer_t *in, struct halide_buffer_t *weights,
                                  struct halide_buffer_t *out);
/** The fully connected layer. */
typedef int (*shufflenet_fc_fn)(const void *context, struct halide_buffer_t *in, int classes,
                                struct halide_buffer_t *weights, struct halide_buffer_t *out);

/** The kernels of one instruction set. */
struct shufflenet_kernels {
    const char *isa;                      /**< "sse41", "avx2", "avx512", "avx512x2", "neon" */
    shufflenet_stem_fn stem;              /**< Convolution and max-pool. */
    shufflenet_branch_fn down_branch1[3]; /**< Branch 1 of the downsampling unit of stages 2, 3, 4. */
    shufflenet_branch_fn down_branch2[3]; /**< Its branch 2. */
    shufflenet_branch_fn basic[3];        /**< Branch 2 of a basic unit; NULL where a stage has none. */
    shufflenet_conv5_fn conv5;            /**< conv5 as a tensor, for who asks for it. */
    shufflenet_conv5_fn conv5_pool;       /**< conv5 and the mean over its pixels. */
    shufflenet_fc_fn fc;                  /**< Pooled features of some images to logits. */
    /** Kernels of a comparison network, numbered by step_kernels() of networks/chain.h; all others but fc are NULL
     *  then. NULL for ShuffleNetV2. */
    const shufflenet_step_fn *steps;
};

/** The kernels of a device for some batches: a whole batch each. `in` of a branch is (offset), the tensors of
 * images are (lane, pixel, image), or (lane, x, y, image) where the stem and a whole branch 2 write them. A unit's
 * branch 2 is either one kernel, or expand, into a tensor of its own, and project. Arrays: stages 2, 3, 4. */
struct shufflenet_device_kernels {
    const char *device;                  /**< "opencl", "cuda" */
    int from_batch;                      /**< For runs of so many images and more, unless a later row says more. */
    shufflenet_step_fn stem;             /**< Convolution and max-pool. */
    shufflenet_conv5_fn down_branch1[3]; /**< Branch 1 of the downsampling unit. */
    shufflenet_conv5_fn down_branch2[3]; /**< Its branch 2. */
    shufflenet_conv5_fn down_expand[3];  /**< Its first convolution alone. */
    shufflenet_conv5_fn basic[3];        /**< Branch 2 of a basic unit. */
    shufflenet_conv5_fn basic_expand[3]; /**< Its first convolution alone. */
    shufflenet_step_fn down_project[3];  /**< What follows down_expand. */
    shufflenet_step_fn basic_project[3]; /**< What follows basic_expand. */
    shufflenet_conv5_fn conv5;           /**< conv5 as a tensor, for who asks for it. */
    shufflenet_conv5_fn conv5_pool;      /**< conv5 and the mean over its pixels. */
    shufflenet_fc_fn fc;                 /**< Pooled features to logits. */
};

/** A model, as shufflenet_add_model() made it. */
struct shufflenet_descriptor {
    unsigned abi;                             /**< SHUFFLENET_VERSION_NUMBER of what made the model; first in
                                               *   every version. A runtime of another one refuses it. */
    const char *name;                         /**< NAME. */
    const char *network;                      /**< NETWORK. */
    int height;                               /**< Of the input, in pixels. */
    int width;                                /**< Of the input, in pixels. */
    int classes;                              /**< CLASSES; loaded weights may have another count. */
    const struct shufflenet_kernels *kernels; /**< From the plainest instruction set to the best. */
    int kernels_count;                        /**< Instruction sets. */
    const unsigned char *weights;             /**< Embedded safetensors file; NULL: none. */
    const unsigned char *weights_end;         /**< Its end. */
    const char *metadata;                     /**< Embedded JSON; NULL: none. */
    const struct shufflenet_device_kernels *device_kernels; /**< DEVICES, each from 1 image up; NULL: none. */
    int device_kernels_count;                               /**< Of all devices. */
};

#ifdef __cplusplus
}
#endif

#endif
