/* A libcuda.so.1 for tests: CUDA's driver API as far as the runtime uses it, on the host. Memory is the host's; kernels
 * are checked and recorded, not executed. */
#ifndef SHUFFLENET_FAKE_CUDA_H
#define SHUFFLENET_FAKE_CUDA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FAKE_CUDA_LAUNCHES 4096

struct fake_cuda_launch {
    char kernel[128];
    uint64_t ptx_hash;  /* FNV-1a of the module's text */
    int products, sums; /* in it, outside of fused multiply-adds */
    void *context, *stream;
    unsigned blocks[3], threads[3], shared_bytes;
    int captured; /* into a graph, not executed */
};

struct fake_cuda {
    /* What the machine is; set by a test before it is asked. */
    int devices, major, minor, multiprocessors, init_result;
    size_t memory_bytes;
    /* The function of this name returns this result at its `fail_after`-th call from now on, counted from 0. */
    const char *fail_function;
    int fail_after, fail_result;

    /* What happened. */
    int primary_retained, primary_released;
    int allocations, frees, uploads, downloads, synchronizations;
    int streams_made, streams_destroyed, modules_loaded, modules_unloaded;
    int captures, graphs_made, graphs_destroyed, graph_launches;
    int launches; /* all; the first FAKE_CUDA_LAUNCHES are recorded */
    struct fake_cuda_launch launch[FAKE_CUDA_LAUNCHES];
    size_t bytes_live;
    /* The first misuse that was seen, such as a call without a context, or a kernel's pointer to no memory. */
    char misuse[256];
};

/* The one state. Tests reset it with fake_cuda_reset() while no model is open. */
struct fake_cuda *fake_cuda_state(void);
void fake_cuda_reset(void);
/* A context that the caller made in its own way, and the calling thread's current one, or NULL. */
void *fake_cuda_callers_context(void);
void *fake_cuda_current(void);
int cuDevicePrimaryCtxRetain(void **context, int device);
int cuDevicePrimaryCtxRelease_v2(int device);
int cuCtxPushCurrent_v2(void *context);
int cuCtxPopCurrent_v2(void **context);
int cuMemAlloc_v2(uint64_t *memory, size_t bytes);
int cuMemFree_v2(uint64_t memory);
int cuStreamCreate(void **stream, unsigned flags);
int cuStreamDestroy_v2(void *stream);

#ifdef __cplusplus
}
#endif

#endif
