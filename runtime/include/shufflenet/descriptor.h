/** @file
 * What a generated model library tells the runtime: the program, its kernels, and embedded data. Plain C. Programs pass
 * a descriptor's address on, and need not look inside. */
#ifndef SHUFFLENET_DESCRIPTOR_H
#define SHUFFLENET_DESCRIPTOR_H

#include <stddef.h>
#include <stdint.h>

#include "shufflenet/version.h"

#ifdef __cplusplus
extern "C" {
#endif

struct halide_buffer_t;

/** A generated function: returns 0 or an error; the first argument is the runtime's context. All are floats but
 * `table`, of 32-bit integers, and `elements`.
 * - `in` (float): the arena of an image; for a kernel that reads the image, that: [channel][row][column]; for a last
 *   linear layer the rows of a group of images, [image][row_floats].
 * - `table` (entry), `weights` (float): what the call has of each; may be empty.
 * - `elements` (element): the weights' memory as numbers of the type shufflenet_shape::element.
 * - `out`, `tail` (lane, pixel, plane, group): the planes that it writes, lanes[0] and lanes[1] of shufflenet_kernel; a
 *   linear layer's are (class, image), and its tail is empty. */
typedef int (*shufflenet_kernel_fn)(const void *context, struct halide_buffer_t *in, struct halide_buffer_t *table,
                                    struct halide_buffer_t *weights, struct halide_buffer_t *elements,
                                    struct halide_buffer_t *out, struct halide_buffer_t *tail);

/** A kernel as one instruction set has it. */
struct shufflenet_kernel {
    shufflenet_kernel_fn run; /**< The function. */
    int lanes[2];             /**< Of each group, those that go to `out`, and those after them that go to `tail`. */
};

/** All kernels of the program for one instruction set. */
struct shufflenet_kernels {
    const char *isa;                         /**< "sse41", "avx2", "avx512", "avx512x2", "neon" */
    const struct shufflenet_kernel *kernels; /**< In the order of shufflenet_program::shapes. */
    int scratch_bytes;                       /**< Memory that a thread needs beside the arena. */
};

/** Types of weights. Biases and factors are floats whatever the weights are. */
enum shufflenet_element {
    SHUFFLENET_F32, /**< float */
    SHUFFLENET_S16  /**< int16_t; a weight is one times the factor of its output channel. */
};

/** What a kernel reads. */
enum shufflenet_source {
    SHUFFLENET_ARENA, /**< Activations of one image. */
    SHUFFLENET_IMAGE, /**< The caller's input. */
    SHUFFLENET_ROWS   /**< The rows of a group of images. */
};

/** A kernel's operands, whatever the instruction set. Its output is [group][plane][pixel][16]. */
struct shufflenet_shape {
    enum shufflenet_source in;       /**< What it reads. */
    int table;                       /**< Entries of its table. */
    int weights;                     /**< Floats of its weights; of SHUFFLENET_ROWS as built: loaded ones may differ. */
    int pixels;                      /**< Of its output. */
    int planes;                      /**< Of a group of its output. */
    int groups;                      /**< Of its output. */
    enum shufflenet_element element; /**< Of its weights. */
};

/** Where a call writes. */
enum shufflenet_destination {
    SHUFFLENET_TO_ARENA, /**< `out` floats from the arena's beginning. */
    SHUFFLENET_TO_ROW,   /**< The image's row. */
    SHUFFLENET_TO_OUTPUT /**< The caller's memory of output number `out`. */
};

/** One call of a kernel. */
struct shufflenet_call {
    const char *id;                 /**< For messages: "stage2_unit0_branch2". */
    int kernel;                     /**< Number of its shape. */
    enum shufflenet_destination to; /**< Where it writes. */
    int out;                        /**< See `to`. */
    int table;                      /**< First entry of its table in shufflenet_program::tables. */
    int64_t weights;                /**< First float of its packed weights. */
};

/** A layer with weights, as weight files have it. */
struct shufflenet_layer {
    const char *module; /**< torch's name, "stage2.0.branch1.0". */
    const char *norm;   /**< Of its batch normalisation; "": none. */
    int linear;         /**< Whether its tensor is (out, in) and not (out, in, rows, columns). */
    int bias;           /**< Whether it has a bias; with a normalisation it has none. */
    int out_channels;   /**< Of a last linear layer as built: a file's count wins. */
    int in_channels;    /**< That one output channel reads: those of its group. */
    int kernel_height;  /**< Of its window. */
    int kernel_width;   /**< Of its window. */
};

/** How a layer's weights are packed: bias[lane], of integers factor[lane], floats, then [lane / panel][row /
 * interleave][lane % panel] [row % interleave], elements, group after group. A row is (window's row, its column,
 * summand), or, with `taps_last`, (summand, row, column). */
struct shufflenet_pack {
    int panel;                       /**< Lanes of a panel. */
    int rows;                        /**< Summands of an output. */
    int lanes;                       /**< Of a group. */
    int groups;                      /**< Of lanes. */
    int stride;                      /**< Floats from a group to the next. */
    int bias;                        /**< First float of the first group's biases in the blob. */
    int weights;                     /**< Likewise of its weights. */
    int64_t blob;                    /**< First float of the blob in the packed weights. */
    enum shufflenet_element element; /**< Type of the weights. */
    int interleave;                  /**< Rows that lie side by side; 1 for floats. */
    int taps_last;                   /**< See above. */
    const int16_t *lane_of;          /**< Of each output channel, group * lanes + lane; NULL: its own number. */
    const int16_t *order; /**< Of each group of the layer, the input channels in summation order; NULL: their own. */
    int order_count;      /**< Entries of `order`. */
};

/** A value that a run returns. */
struct shufflenet_output {
    const char *name;       /**< "logits", "stage3" */
    int channels;           /**< Of logits the classes as built: loaded weights may have others. */
    int height;             /**< Rows. */
    int width;              /**< Columns. */
    const int32_t *offsets; /**< Of each channel in the arena at pixel 0; the next pixel is 16 floats further. NULL:
                             *   calls write it, [image][channel]. */
};

/** What a network is compiled to: calls over an arena. */
struct shufflenet_program {
    const struct shufflenet_shape *shapes; /**< One for each kernel. */
    int kernels_count;                     /**< Kernels. */
    const struct shufflenet_call *calls;   /**< In order. */
    int calls_count;                       /**< Calls. */
    int image_calls;                       /**< The first calls are for each image, the others for a group of images. */
    int arena_floats;                      /**< Activations of one image. */
    int row_floats;                        /**< Of a row; 0: there are none. */
    int64_t weight_floats;                 /**< Packed weights, as built. */
    const int32_t *tables;                 /**< Tables of all calls. */
    int tables_count;                      /**< Entries. */
    const struct shufflenet_layer *layers; /**< Those with weights, in order. */
    const struct shufflenet_pack *packing; /**< One for each layer. */
    int layers_count;                      /**< Layers with weights. */
    const struct shufflenet_output *outputs; /**< What a run returns. */
    int outputs_count;                       /**< Outputs. */
    const char *graph;                       /**< The network as text, for tools: see networks/graph_text.h. */
};

/** A model, as shufflenet_compile made it. */
struct shufflenet_descriptor {
    unsigned abi;                             /**< SHUFFLENET_VERSION_NUMBER of what made the model; first in
                                               *   every version. A runtime of another one refuses it. */
    const char *name;                         /**< Of the model. */
    const char *network;                      /**< What it is a model of. */
    int height;                               /**< Of the input, in pixels. */
    int width;                                /**< Of the input, in pixels. */
    int classes;                              /**< Of a last linear layer, as built; 0: there is none. */
    const struct shufflenet_program *program; /**< What a run does. */
    const struct shufflenet_kernels *kernels; /**< From the baseline instruction set to the best. */
    int kernels_count;                        /**< Instruction sets. */
    const float *packed;                      /**< Embedded weights, packed, 64-byte aligned; NULL: none. */
    const unsigned char *weights;             /**< Embedded safetensors file, which is packed when it is opened; NULL:
                                               *   none. */
    const unsigned char *weights_end;         /**< Its end. */
    const char *metadata;                     /**< Embedded JSON; NULL: none. */
    const struct shufflenet_device *devices;  /**< DEVICES; NULL: none. */
    int devices_count;                        /**< How many. */
};

/** What a call costs, by which measurements are judged. */
struct shufflenet_cost {
    int64_t multiply_adds; /**< Of an image. */
    int64_t bytes;         /**< Activations of an image that it reads and writes, each once. */
};

/** A device: a program of its own, whose kernels compute a whole batch. A plane has room for as many images as a model
 * is opened for, [image][pixel][16]: what is at float f of an image's arena is, of the first image, at
 * (f / 16 * 16) * images + f % 16, and the next image is as many floats further as a plane of an image has. The runtime
 * rewrites the offsets that tables have accordingly. Kernels have the arguments that they have on a CPU
 * (shufflenet_kernel_fn), but for these:
 * - `in` (float): the arena of all images; images; or, of a last linear layer, their rows as planes of one pixel:
 *   (lane, image, plane). The table of such a layer is not rewritten.
 * - `out` (lane, pixel, plane, image), whole planes; of a linear layer (class, image). `tail` is empty. */
struct shufflenet_device {
    const char *device;                       /**< "opencl", "cuda" */
    const struct shufflenet_program *program; /**< Its program, without groups. */
    int variants_count;                       /**< Tables of kernels. */
    const int *from_batch;                    /**< Of each: for runs of so many images and more; the first is 1. */
    const struct shufflenet_kernel *const *kernels; /**< Of each, in the order of the program's shapes. */
    const int *offsets;                             /**< Of each shape: so many entries, the first ones of its tables,
                                                     *   are offsets in the arena. */
    const struct shufflenet_cost *costs;            /**< Of each call. */
};

#ifdef __cplusplus
}
#endif

#endif
