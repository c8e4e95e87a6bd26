#define _GNU_SOURCE
#include "fake_cuda.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    kSuccess = 0,
    kInvalidValue = 1,
    kOutOfMemory = 2,
    kInvalidContext = 201,
    kNotFound = 500,
    kDepth = 16,
    kAllocations = 4096,
    kLargeBytes = 16 << 20, /* Such memory is the system's zeros until somebody writes to it. */
    kGraphPointers = 1024,
    kDefaultSharedBytes = 48 << 10,
    kMostThreads = 1024
};

struct allocation {
    char *memory;
    size_t bytes;
    void *context;
};

struct graph {
    struct graph *next; /* Of those that can be launched. */
    int kernels, pointers;
    uint64_t pointer[kGraphPointers]; /* that its kernels were given */
};

struct stream {
    void *context;
    int capturing;
    struct graph captured;
};

struct module {
    char *text;
    uint64_t hash;
    int products, sums;
    void *context;
    struct function *functions;
};

struct function {
    struct module *module;
    struct function *next; /* Of the same module. */
    char name[128];
};


static struct fake_cuda state;
static struct allocation allocations[kAllocations];
static struct graph *graphs;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char primary_context, callers_context;
static __thread void *stack[kDepth];
static __thread int depth;

struct fake_cuda *fake_cuda_state(void) { return &state; }

void fake_cuda_reset(void) {
    memset(&state, 0, sizeof state);
    state.devices = 1;
    state.major = 9;
    state.multiprocessors = 132;
    state.memory_bytes = (size_t)8 << 30;
}

void *fake_cuda_callers_context(void) { return &callers_context; }
void *fake_cuda_current(void) { return depth > 0 ? stack[depth - 1] : NULL; }

static void misuse(const char *what) {
    if (state.misuse[0] == '\0') snprintf(state.misuse, sizeof state.misuse, "%s", what);
}

/* Called first by every function: its injected error, or 0. */
static int enter(const char *function, int needs_context) {
    int result = kSuccess;
    pthread_mutex_lock(&mutex);
    if (needs_context && fake_cuda_current() == NULL) {
        misuse(function);
        result = kInvalidContext;
    } else if (state.fail_function != NULL && strcmp(state.fail_function, function) == 0 && state.fail_after-- <= 0) {
        result = state.fail_result;
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

#define ENTER(needs_context)                                      \
    do {                                                          \
        const int injected = enter(__func__, needs_context);      \
        if (injected != kSuccess) return injected;                \
    } while (0)

static void count(int *counter) {
    pthread_mutex_lock(&mutex);
    ++*counter;
    pthread_mutex_unlock(&mutex);
}

/* Whether [at, at + bytes) is memory that was allocated in the current context. */
static int is_memory(uint64_t at, size_t bytes) {
    int found = 0;
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < kAllocations && !found; ++i) {
        const struct allocation *a = &allocations[i];
        const uint64_t begin = (uint64_t)(uintptr_t)a->memory;
        found = a->memory != NULL && a->context == fake_cuda_current() && at >= begin && at + bytes <= begin + a->bytes;
    }
    pthread_mutex_unlock(&mutex);
    return found;
}

int cuInit(unsigned flags) {
    (void)flags;
    return state.init_result;
}

int cuGetErrorString(int result, const char **text) {
    *text = result == kOutOfMemory ? "out of memory" : result == 100 ? "no CUDA-capable device is detected" : "fake error";
    return kSuccess;
}

int cuDeviceGetCount(int *devices) {
    ENTER(0);
    *devices = state.devices;
    return kSuccess;
}

int cuDeviceGet(int *device, int index) {
    ENTER(0);
    *device = index;
    return index < state.devices ? kSuccess : kInvalidValue;
}

int cuDeviceGetName(char *name, int size, int device) {
    snprintf(name, (size_t)size, "Fake GPU %d", device);
    return kSuccess;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    ENTER(0);
    (void)device;
    *value = attribute == 75 ? state.major : attribute == 76 ? state.minor : attribute == 16 ? state.multiprocessors : 0;
    return kSuccess;
}

static int primary_is_active(void) { return state.primary_retained > state.primary_released; }

int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    ENTER(0);
    (void)device;
    *flags = 0;
    *active = primary_is_active();
    return kSuccess;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
    ENTER(0);
    (void)device;
    count(&state.primary_retained);
    *context = &primary_context;
    return kSuccess;
}

int cuDevicePrimaryCtxRelease_v2(int device) {
    (void)device;
    count(&state.primary_released);
    return kSuccess;
}

int cuCtxPushCurrent_v2(void *context) {
    ENTER(0);
    if (context != &primary_context && context != &callers_context) return kInvalidContext;
    if (context == &primary_context && !primary_is_active()) {
        misuse("the primary context is used after its last user released it");
        return kInvalidContext;
    }
    if (depth == kDepth) {
        misuse("contexts are pushed and not popped");
        return kInvalidValue;
    }
    stack[depth++] = context;
    return kSuccess;
}

int cuCtxPopCurrent_v2(void **context) {
    if (depth == 0) {
        misuse("a context is popped that was not pushed");
        return kInvalidContext;
    }
    *context = stack[--depth];
    return kSuccess;
}

int cuCtxGetDevice(int *device) {
    ENTER(1);
    *device = 0;
    return kSuccess;
}

static void *take_memory(size_t bytes) {
    if (bytes >= kLargeBytes) {
        return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    }
    void *memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
    /* Not zeros: whoever needs these must ask for them. */
    memset(memory, 0xFF, bytes);
    return memory;
}

/* Memory of a graph must stay, because launching it has no other arguments. */
static void check_graphs(const struct allocation *freed) {
    const uint64_t begin = (uint64_t)(uintptr_t)freed->memory;
    for (const struct graph *g = graphs; g != NULL; g = g->next) {
        for (int i = 0; i < g->pointers; ++i) {
            if (g->pointer[i] >= begin && g->pointer[i] < begin + freed->bytes) misuse("a graph's memory is freed");
        }
    }
}

int cuMemAlloc_v2(uint64_t *memory, size_t bytes) {
    ENTER(1);
    int result = kOutOfMemory;
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < kAllocations && state.bytes_live + bytes <= state.memory_bytes; ++i) {
        if (allocations[i].memory != NULL) continue;
        allocations[i].memory = take_memory(bytes);
        allocations[i].bytes = bytes;
        allocations[i].context = fake_cuda_current();
        *memory = (uint64_t)(uintptr_t)allocations[i].memory;
        state.bytes_live += bytes;
        ++state.allocations;
        result = kSuccess;
        break;
    }
    pthread_mutex_unlock(&mutex);
    return result;
}

int cuMemFree_v2(uint64_t memory) {
    ENTER(1);
    int result = kInvalidValue;
    pthread_mutex_lock(&mutex);
    for (int i = 0; i < kAllocations; ++i) {
        if (memory == 0 || (uint64_t)(uintptr_t)allocations[i].memory != memory) continue;
        if (allocations[i].context != fake_cuda_current()) misuse("memory is freed in another context");
        check_graphs(&allocations[i]);
        if (allocations[i].bytes >= kLargeBytes) {
            munmap(allocations[i].memory, allocations[i].bytes);
        } else {
            free(allocations[i].memory);
        }
        allocations[i].memory = NULL;
        state.bytes_live -= allocations[i].bytes;
        ++state.frees;
        result = kSuccess;
        break;
    }
    if (result != kSuccess) misuse("memory is freed that was not allocated");
    pthread_mutex_unlock(&mutex);
    return result;
}

static int check_copy(uint64_t device, size_t bytes, void *stream) {
    const struct stream *s = stream;
    if (s != NULL && s->context != fake_cuda_current()) misuse("a copy on another context's stream");
    if (is_memory(device, bytes)) return kSuccess;
    misuse("a copy outside of the device's memory");
    return kInvalidValue;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
    ENTER(1);
    const int result = check_copy(to, bytes, stream);
    if (result == kSuccess) memcpy((void *)(uintptr_t)to, from, bytes);
    count(&state.uploads);
    return result;
}

int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
    ENTER(1);
    const int result = check_copy(from, bytes, stream);
    if (result == kSuccess) memcpy(to, (const void *)(uintptr_t)from, bytes);
    count(&state.downloads);
    return result;
}

int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void *stream) {
    ENTER(1);
    const int result = check_copy(to, bytes, stream);
    /* Large memory is wanted whole and as zeros, which it gets without being touched. */
    if (result == kSuccess && (bytes < kLargeBytes || madvise((void *)(uintptr_t)to, bytes, MADV_DONTNEED) != 0)) {
        memset((void *)(uintptr_t)to, value, bytes);
    }
    return result;
}

int cuStreamCreate(void **stream, unsigned flags) {
    ENTER(1);
    (void)flags;
    struct stream *made = calloc(1, sizeof *made);
    made->context = fake_cuda_current();
    *stream = made;
    count(&state.streams_made);
    return kSuccess;
}

int cuStreamDestroy_v2(void *stream) {
    ENTER(1);
    free(stream);
    count(&state.streams_destroyed);
    return kSuccess;
}

int cuStreamSynchronize(void *stream) {
    ENTER(1);
    const struct stream *s = stream;
    if (s != NULL && s->capturing) misuse("a stream is waited for while it is captured");
    count(&state.synchronizations);
    return kSuccess;
}

static int occurrences(const char *text, const char *word) {
    int number = 0;
    while ((text = strstr(text, word)) != NULL) {
        ++number;
        text += strlen(word);
    }
    return number;
}

int cuModuleLoadData(void **module, const void *image) {
    ENTER(1);
    if (strstr(image, ".visible .entry") == NULL) return 218; /* CUDA_ERROR_INVALID_PTX */
    struct module *made = calloc(1, sizeof *made);
    made->text = strdup(image);
    made->hash = 0xCBF29CE484222325U;
    for (const char *at = made->text; *at != '\0'; ++at) made->hash = (made->hash ^ (unsigned char)*at) * 0x100000001B3U;
    made->products = occurrences(made->text, "\tmul.f32");
    made->sums = occurrences(made->text, "\tadd.f32");
    made->context = fake_cuda_current();
    *module = made;
    count(&state.modules_loaded);
    return kSuccess;
}

/* Functions are the module's, and are lost with it; so are these few bytes. */
int cuModuleUnload(void *module) {
    ENTER(1);
    struct module *m = module;
    if (m->context != fake_cuda_current()) misuse("a module is unloaded in another context");
    while (m->functions != NULL) {
        struct function *next = m->functions->next;
        free(m->functions);
        m->functions = next;
    }
    free(m->text);
    free(m);
    count(&state.modules_unloaded);
    return kSuccess;
}

int cuModuleGetFunction(void **function, void *module, const char *name) {
    ENTER(1);
    struct module *m = module;
    char entry[160];
    snprintf(entry, sizeof entry, ".entry %s(", name);
    if (strstr(m->text, entry) == NULL) return kNotFound;
    struct function *made = calloc(1, sizeof *made);
    made->module = m;
    made->next = m->functions;
    m->functions = made;
    snprintf(made->name, sizeof made->name, "%s", name);
    *function = made;
    return kSuccess;
}

/* Every parameter of 8 bytes is a pointer: it must be into live memory. */
static void check_arguments(const struct function *f, void **arguments, struct graph *captured) {
    char entry[160];
    snprintf(entry, sizeof entry, ".entry %s(", f->name);
    const char *at = strstr(f->module->text, entry);
    const char *end = strchr(at, ')');
    for (int i = 0; (at = strstr(at, ".param ")) != NULL && at < end; ++i, at += 7) {
        if (strncmp(at, ".param .u64", 11) != 0 && strncmp(at, ".param .b64", 11) != 0) continue;
        uint64_t pointer = 0;
        memcpy(&pointer, arguments[i], sizeof pointer);
        if (!is_memory(pointer, 1)) misuse("a kernel's pointer is not into the device's memory");
        if (captured != NULL && captured->pointers < kGraphPointers) captured->pointer[captured->pointers++] = pointer;
    }
}

int cuLaunchKernel(void *function, unsigned bx, unsigned by, unsigned bz, unsigned tx, unsigned ty, unsigned tz,
                   unsigned shared_bytes, void *stream, void **arguments, void **extra) {
    ENTER(1);
    (void)extra;
    const struct function *f = function;
    struct stream *s = stream;
    if (f->module->context != fake_cuda_current()) misuse("a kernel of another context");
    if (bx == 0 || by == 0 || bz == 0 || by > 65535 || bz > 65535) misuse("a grid that CUDA does not allow");
    if (tx * ty * tz == 0 || tx * ty * tz > kMostThreads || tz > 64) misuse("a block that CUDA does not allow");
    if (shared_bytes > kDefaultSharedBytes) misuse("more shared memory than a kernel gets unasked");
    check_arguments(f, arguments, s != NULL && s->capturing ? &s->captured : NULL);
    pthread_mutex_lock(&mutex);
    const int number = state.launches++;
    if (number < FAKE_CUDA_LAUNCHES) {
        struct fake_cuda_launch *l = &state.launch[number];
        snprintf(l->kernel, sizeof l->kernel, "%s", f->name);
        l->ptx_hash = f->module->hash;
        l->products = f->module->products;
        l->sums = f->module->sums;
        l->context = fake_cuda_current();
        l->stream = stream;
        const unsigned blocks[3] = {bx, by, bz}, threads[3] = {tx, ty, tz};
        memcpy(l->blocks, blocks, sizeof blocks);
        memcpy(l->threads, threads, sizeof threads);
        l->shared_bytes = shared_bytes;
        l->captured = s != NULL && s->capturing;
    }
    if (s != NULL && s->capturing) ++s->captured.kernels;
    pthread_mutex_unlock(&mutex);
    return kSuccess;
}

int cuStreamBeginCapture_v2(void *stream, unsigned mode) {
    ENTER(1);
    (void)mode;
    struct stream *s = stream;
    if (s == NULL) return kInvalidValue; /* The legacy stream cannot be captured. */
    s->capturing = 1;
    memset(&s->captured, 0, sizeof s->captured);
    count(&state.captures);
    return kSuccess;
}

int cuStreamEndCapture(void *stream, void **graph) {
    struct stream *s = stream;
    s->capturing = 0;
    ENTER(1);
    struct graph *made = calloc(1, sizeof *made);
    *made = s->captured;
    *graph = made;
    return kSuccess;
}

#ifndef FAKE_CUDA_OLD
int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long flags) {
    ENTER(1);
    (void)flags;
    struct graph *made = calloc(1, sizeof *made);
    *made = *(struct graph *)graph;
    pthread_mutex_lock(&mutex);
    made->next = graphs;
    graphs = made;
    pthread_mutex_unlock(&mutex);
    *executable = made;
    count(&state.graphs_made);
    return kSuccess;
}
#endif

int cuGraphDestroy(void *graph) {
    free(graph);
    return kSuccess;
}

int cuGraphExecDestroy(void *executable) {
    pthread_mutex_lock(&mutex);
    struct graph **at = &graphs;
    while (*at != executable) at = &(*at)->next;
    *at = (*at)->next;
    pthread_mutex_unlock(&mutex);
    free(executable);
    count(&state.graphs_destroyed);
    return kSuccess;
}

int cuGraphLaunch(void *executable, void *stream) {
    ENTER(1);
    (void)stream;
    if (((struct graph *)executable)->kernels == 0) misuse("an empty graph");
    count(&state.graph_launches);
    return kSuccess;
}
