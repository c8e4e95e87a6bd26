// A driver's library, loaded while the program runs.
#pragma once

#include <dlfcn.h>

#include <mutex>
#include <string>

#include "shufflenet/status.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// Loads `library` for good: drivers do not survive being unloaded.
inline Status load_library(const char *library, void **handle) {
    *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (*handle != nullptr) return {};
    const char *reason = dlerror();
    return {Code::kUnsupported, std::string(library) + ": no driver: " + (reason != nullptr ? reason : "cannot load")};
}

template <typename F>
Status load_function(void *handle, const char *library, const char *name, F **function) {
    *function = reinterpret_cast<F *>(dlsym(handle, name));
    if (*function != nullptr) return {};
    return {Code::kUnsupported, std::string(library) + ": the driver is too old: it has no " + name};
}

/// The functions of a driver, which Driver::load() finds, once for the process; a failure is not remembered.
template <typename Driver>
Status get_driver(const Driver **driver) {
    static std::mutex mutex;
    static Driver loaded;
    static bool ready = false;
    const std::lock_guard lock(mutex);
    if (!ready) {
        if (Status status = loaded.load(); !status.ok()) return status;
        ready = true;
    }
    *driver = &loaded;
    return {};
}

}  // namespace shufflenet
