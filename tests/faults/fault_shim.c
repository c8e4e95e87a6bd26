/* Preloaded into a program, makes calls of its fail, from main() on. The variable FAULT says which:
 *
 *     malloc         each allocation (by malloc, calloc, realloc or aligned_alloc) fails in a copy of the process that is
 *                    forked for it, alone and with all that follow; once for every stack of callers
 *     memory N       the address space can grow by N MiB: mmap() and brk() fail
 *     FUNCTION N     the Nth call of open, read, pread, write, close, fstat, fsync, fchmod, fchown, ftruncate, link, rename
 *                    or pthread_create
 *     busy_rename N  the Nth call of rename, as onto a file that is mounted
 *     short_FUNCTION N, interrupted_FUNCTION N
 *                    the Nth call of read, pread or write does half of its work, or none yet
 *
 * The file FAULT_REPORT receives what became of each copy, "STATUS<TAB>STDERR<NUL>", or "reached" where the Nth call was
 * made. A copy's standard output is dropped. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static char function[32] = "";
static long nth = 0, calls = 0;
static int report = -1;

/* The library's function that `name` hides. */
#define NEXT(name)                                                      \
    static __typeof__(&(name)) next = NULL;                             \
    if (next == NULL) *(void **)&next = dlsym(RTLD_NEXT, #name)

static ssize_t real_write(int file, const void *bytes, size_t size) {
    NEXT(write);
    return next(file, bytes, size);
}

static int is_nth(const char *name) {
    if (strcmp(name, function) != 0 || __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) != nth) return 0;
    real_write(report, "reached", 7);
    return 1;
}

/* Allocations */

enum { kDepth = 32, kPlaces = 1 << 16 };
static uint64_t places[kPlaces];
static int trying = 0, all_fail = 0;
static char parent[24] = ""; /* Of a copy: "-PID-", which is in the names of its parent's temporary files. */

/* Whether this stack of callers is new. */
static int is_new_place(void) {
    void *stack[kDepth];
    const int depth = backtrace(stack, kDepth);
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (int i = 0; i < depth; ++i) hash = (hash ^ (uint64_t)(uintptr_t)stack[i]) * 1099511628211u;
    for (uint64_t i = hash; ; ++i) {
        uint64_t *place = &places[i % kPlaces];
        if (*place == hash) return 0;
        if (*place != 0) continue;
        *place = hash;
        return 1;
    }
}

/* In the parent 0, once the copy has ended; in the copy 1. */
static int in_copy(void) {
    const int file = memfd_create("stderr", MFD_CLOEXEC);
    const pid_t copy = file < 0 ? -1 : fork();
    if (copy < 0) _exit(99);
    if (copy == 0) {
        dup2(file, STDERR_FILENO);
        dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDOUT_FILENO);
        snprintf(parent, sizeof parent, "-%d-", (int)getppid());
        return 1;
    }
    int status = 0;
    waitpid(copy, &status, 0);
    char text[4096];
    const int length = snprintf(text, sizeof text, "%d\t", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
    const ssize_t said = pread(file, text + length, sizeof text - (size_t)length - 1, 0);
    text[length + said] = '\0';
    real_write(report, text, (size_t)(length + said) + 1);
    close(file);
    return 0;
}

static int allocation_fails(void) {
    if (all_fail) return 1;
    if (!trying) return 0;
    trying = 0;
    if (is_new_place()) {
        if (in_copy()) return 1;
        if (in_copy()) return all_fail = 1;
    }
    trying = 1;
    return 0;
}

#define ALLOCATE(call)              \
    if (allocation_fails()) {       \
        errno = ENOMEM;             \
        return NULL;                \
    }                               \
    return call

void *malloc(size_t size) { ALLOCATE(__libc_malloc(size)); }
void *calloc(size_t count, size_t size) { ALLOCATE(__libc_calloc(count, size)); }
void *realloc(void *memory, size_t size) { ALLOCATE(__libc_realloc(memory, size)); }
void *aligned_alloc(size_t alignment, size_t size) { ALLOCATE(__libc_memalign(alignment, size)); }

/* Files and threads */

static int fails(const char *name, int error) {
    if (!is_nth(name)) return 0;
    errno = error;
    return 1;
}

/* What the parent still needs. */
static int is_parents(const char *path) { return parent[0] != '\0' && strstr(path, parent) != NULL; }

int open(const char *path, int flags, ...) {
    NEXT(open);
    va_list rest;
    va_start(rest, flags);
    const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return fails("open", EMFILE) ? -1 : next(path, flags, mode);
}
ssize_t read(int file, void *bytes, size_t size) {
    NEXT(read);
    if (fails("read", EIO) || fails("interrupted_read", EINTR)) return -1;
    return next(file, bytes, is_nth("short_read") ? (size + 1) / 2 : size);
}
ssize_t pread(int file, void *bytes, size_t size, off_t offset) {
    NEXT(pread);
    if (fails("pread", EIO) || fails("interrupted_pread", EINTR)) return -1;
    return next(file, bytes, is_nth("short_pread") ? (size + 1) / 2 : size, offset);
}
ssize_t write(int file, const void *bytes, size_t size) {
    if (fails("write", ENOSPC) || fails("interrupted_write", EINTR)) return -1;
    return real_write(file, bytes, is_nth("short_write") ? (size + 1) / 2 : size);
}
int close(int file) {
    NEXT(close);
    const int result = next(file);
    return fails("close", EIO) ? -1 : result;
}
int fstat(int file, struct stat *info) {
    NEXT(fstat);
    return fails("fstat", EIO) ? -1 : next(file, info);
}
int fsync(int file) {
    NEXT(fsync);
    return fails("fsync", EIO) ? -1 : next(file);
}
int fchmod(int file, mode_t mode) {
    NEXT(fchmod);
    return fails("fchmod", EPERM) ? -1 : next(file, mode);
}
int fchown(int file, uid_t user, gid_t group) {
    NEXT(fchown);
    return fails("fchown", EPERM) ? -1 : next(file, user, group);
}
int ftruncate(int file, off_t size) {
    NEXT(ftruncate);
    return fails("ftruncate", EIO) ? -1 : next(file, size);
}
int link(const char *from, const char *to) {
    NEXT(link);
    return fails("link", EPERM) ? -1 : next(from, to);
}
int rename(const char *from, const char *to) {
    NEXT(rename);
    if (is_parents(from)) return 0;
    return fails("rename", EIO) || fails("busy_rename", EBUSY) ? -1 : next(from, to);
}
int unlink(const char *path) {
    NEXT(unlink);
    return is_parents(path) ? 0 : next(path);
}
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    NEXT(pthread_create);
    return is_nth("pthread_create") ? EAGAIN : next(thread, attributes, run, argument);
}

/* The start */

static void limit_memory(long mebibytes) {
    FILE *file = fopen("/proc/self/statm", "r");
    long pages = 0;
    if (file == NULL || fscanf(file, "%ld", &pages) != 1) _exit(99);
    fclose(file);
    const rlim_t bytes = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + ((rlim_t)mebibytes << 20);
    const struct rlimit limit = {bytes, bytes};
    if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(99);
}

static int (*program)(int, char **, char **) = NULL;

static int faulty_main(int count, char **arguments, char **environment) {
    const char *fault = getenv("FAULT"), *path = getenv("FAULT_REPORT");
    NEXT(open);
    report = next(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    char name[sizeof function] = "";
    if (report < 0 || sscanf(fault, "%31s %ld", name, &nth) < 1) _exit(99);
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    void *unused[1];
    backtrace(unused, 1); /* The first one loads libgcc. */
    if (strcmp(name, "memory") == 0) limit_memory(nth);
    memcpy(function, name, sizeof function);
    trying = strcmp(name, "malloc") == 0;
    const int status = program(count, arguments, environment);
    trying = 0;
    return status;
}

int __libc_start_main(int (*main)(int, char **, char **), int count, char **arguments, void (*start)(void),
                      void (*finish)(void), void (*finish_loader)(void), void *stack_end) {
    int (*next)(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void), void (*)(void), void *);
    *(void **)&next = dlsym(RTLD_NEXT, "__libc_start_main");
    program = main;
    return next(faulty_main, count, arguments, start, finish, finish_loader, stack_end);
}
