#include "opencl_checks.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <string>

extern "C" void *__real_dlsym(void *library, const char *name);

namespace shufflenet {

OpenClChecks opencl_checks;

namespace {

using Handle = void *;
using Result = int32_t;

constexpr Result kInvalidContext = -34, kInvalidQueue = -36;
constexpr uint32_t kContextDevices = 0x1081;

/// The driver's functions that are checked.
std::map<std::string, void *> found;
template <typename F>
F *driver(const char *name) {
    return reinterpret_cast<F *>(found.at(name));
}

/// Users of each context and queue.
std::map<Handle, int> users;

bool is_gone(Handle object) {
    const bool gone = users[object] <= 0;
    if (gone) ++opencl_checks.dangling;
    return gone;
}

struct Extent {
    Handle whole;
    size_t first, size;

    bool overlaps(const Extent &other) const {
        return whole == other.whole && first < other.first + other.size && other.first < first + size;
    }
};
std::map<Handle, Extent> extents;
std::map<Handle, std::map<uint32_t, Handle>> arguments;

/// Of different objects; of one and the same a kernel may read and write different elements.
bool has_overlap(const std::map<uint32_t, Handle> &memory) {
    return std::ranges::any_of(memory, [&](const auto &a) {
        return std::ranges::any_of(memory, [&](const auto &b) {
            return a.second != b.second && extents.at(a.second).overlaps(extents.at(b.second));
        });
    });
}

bool is_shared(const std::map<uint32_t, Handle> &memory) {
    std::set<Handle> objects;
    return std::ranges::any_of(memory, [&](const auto &a) { return !objects.insert(a.second).second; });
}

// In the driver's place

Handle create_context(const void *properties, uint32_t count, const Handle *devices, void *notify, void *data,
                      Result *result) {
    Handle made = driver<decltype(create_context)>("clCreateContext")(properties, count, devices, notify, data, result);
    users[made] = 1;
    return made;
}
Result retain_context(Handle context) {
    ++users[context];
    return driver<decltype(retain_context)>("clRetainContext")(context);
}
Result release_context(Handle context) {
    --users[context];
    return driver<decltype(release_context)>("clReleaseContext")(context);
}
Result context_info(Handle context, uint32_t what, size_t size, void *value, size_t *bytes) {
    if (what == kContextDevices && opencl_checks.context_without_devices) {
        if (bytes != nullptr) *bytes = 0;
        return 0;
    }
    return driver<decltype(context_info)>("clGetContextInfo")(context, what, size, value, bytes);
}

Handle create_queue(Handle context, Handle device, uint64_t properties, Result *result) {
    Handle made = driver<decltype(create_queue)>("clCreateCommandQueue")(context, device, properties, result);
    users[made] = 1;
    return made;
}
Result retain_queue(Handle queue) {
    ++users[queue];
    return driver<decltype(retain_queue)>("clRetainCommandQueue")(queue);
}
Result release_queue(Handle queue) {
    --users[queue];
    return driver<decltype(release_queue)>("clReleaseCommandQueue")(queue);
}
Result finish(Handle queue) { return is_gone(queue) ? kInvalidQueue : driver<decltype(finish)>("clFinish")(queue); }
Result write(Handle queue, Handle to, uint32_t wait, size_t first, size_t size, const void *from, uint32_t count,
             const Handle *events, Handle *event) {
    if (is_gone(queue)) return kInvalidQueue;
    return driver<decltype(write)>("clEnqueueWriteBuffer")(queue, to, wait, first, size, from, count, events, event);
}

Handle create_buffer(Handle context, uint64_t flags, size_t size, void *host, Result *result) {
    if (is_gone(context)) {
        *result = kInvalidContext;
        return nullptr;
    }
    Handle made = driver<decltype(create_buffer)>("clCreateBuffer")(context, flags, size, host, result);
    extents[made] = {made, 0, size};
    return made;
}
Handle create_part(Handle whole, uint64_t flags, uint32_t type, const void *region, Result *result) {
    Handle made = driver<decltype(create_part)>("clCreateSubBuffer")(whole, flags, type, region, result);
    Extent extent{whole, 0, 0};
    std::memcpy(&extent.first, region, sizeof(size_t));
    std::memcpy(&extent.size, static_cast<const std::byte *>(region) + sizeof(size_t), sizeof(size_t));
    extents[made] = extent;
    return made;
}

Result set_argument(Handle kernel, uint32_t index, size_t size, const void *value) {
    Handle memory = nullptr;
    if (value != nullptr && size == sizeof memory) std::memcpy(&memory, value, size);
    arguments[kernel].erase(index);
    if (extents.contains(memory)) arguments[kernel][index] = memory;
    return driver<decltype(set_argument)>("clSetKernelArg")(kernel, index, size, value);
}
Result enqueue(Handle queue, Handle kernel, uint32_t dimensions, const size_t *offset, const size_t *global,
               const size_t *local, uint32_t count, const Handle *events, Handle *event) {
    ++opencl_checks.launches;
    if (has_overlap(arguments[kernel])) ++opencl_checks.overlapping;
    if (is_shared(arguments[kernel])) ++opencl_checks.shared;
    return driver<decltype(enqueue)>("clEnqueueNDRangeKernel")(queue, kernel, dimensions, offset, global, local, count,
                                                               events, event);
}

struct Replacement {
    const char *name;
    void *function;
};
const Replacement kReplacements[] = {
    {"clCreateContext", reinterpret_cast<void *>(create_context)},
    {"clRetainContext", reinterpret_cast<void *>(retain_context)},
    {"clReleaseContext", reinterpret_cast<void *>(release_context)},
    {"clGetContextInfo", reinterpret_cast<void *>(context_info)},
    {"clCreateCommandQueue", reinterpret_cast<void *>(create_queue)},
    {"clRetainCommandQueue", reinterpret_cast<void *>(retain_queue)},
    {"clReleaseCommandQueue", reinterpret_cast<void *>(release_queue)},
    {"clFinish", reinterpret_cast<void *>(finish)},
    {"clEnqueueWriteBuffer", reinterpret_cast<void *>(write)},
    {"clCreateBuffer", reinterpret_cast<void *>(create_buffer)},
    {"clCreateSubBuffer", reinterpret_cast<void *>(create_part)},
    {"clSetKernelArg", reinterpret_cast<void *>(set_argument)},
    {"clEnqueueNDRangeKernel", reinterpret_cast<void *>(enqueue)},
};

}  // namespace

}  // namespace shufflenet

extern "C" void *__wrap_dlsym(void *library, const char *name) {
    using namespace shufflenet;
    void *function = __real_dlsym(library, name);
    for (const Replacement &replacement : kReplacements) {
        if (function == nullptr || std::string(name) != replacement.name) continue;
        found[name] = function;
        return replacement.function;
    }
    return function;
}
