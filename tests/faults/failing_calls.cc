#include "failing_calls.h"

#include <dlfcn.h>
#include <pthread.h>

#include <cerrno>
#include <cstdlib>
#include <new>

namespace shufflenet {

FailingCall failing_allocation, failing_thread;

}  // namespace shufflenet

extern "C" {
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size) { return shufflenet::failing_allocation.now() ? nullptr : __real_malloc(size); }

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size) {
    return shufflenet::failing_allocation.now() ? nullptr : __real_calloc(count, size);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) noexcept {
    if (shufflenet::failing_thread.now()) return EAGAIN;
    static const auto next = reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
    return next(thread, attributes, run, argument);
}
}

void *operator new(size_t size, const std::nothrow_t & /*tag*/) noexcept {
    return shufflenet::failing_allocation.now() ? nullptr : __real_malloc(size == 0 ? 1 : size);
}
void *operator new(size_t size) {
    void *memory = operator new(size, std::nothrow);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}
void *operator new(size_t size, std::align_val_t alignment) {
    const auto line = static_cast<size_t>(alignment);
    void *memory =
        shufflenet::failing_allocation.now() ? nullptr : std::aligned_alloc(line, (size + line - 1) / line * line);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, size_t /*size*/) noexcept { std::free(memory); }
void operator delete(void *memory, std::align_val_t /*alignment*/) noexcept { std::free(memory); }
void operator delete(void *memory, size_t /*size*/, std::align_val_t /*alignment*/) noexcept { std::free(memory); }
