// Between the runtime and OpenCL's driver, by the linker's --wrap=dlsym: counts what the specification leaves
// undefined, which a driver may let pass.
#pragma once

namespace shufflenet {

struct OpenClChecks {
    int launches = 0;
    /// Launches with two memory objects that overlap, of which a kernel may read the one and write the other.
    int overlapping = 0;
    /// Launches with one memory object for two arguments, of which a kernel that reads by a table could not say that
    /// what it writes is another part.
    int shared = 0;
    /// Uses of a context or queue that its last user has released; they are errors then.
    int dangling = 0;
    /// Set by a test: what clGetContextInfo() says.
    bool context_without_devices = false;
};

extern OpenClChecks opencl_checks;

}  // namespace shufflenet
