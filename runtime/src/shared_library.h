// A driver's library, loaded while the program runs.
#pragma once

#include <dlfcn.h>

#include <string>

#include "shufflenet/status.h"

namespace shufflenet {

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

}  // namespace shufflenet
