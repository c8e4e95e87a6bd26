// Where the launches of generated kernels go: to a device's stream, with modules that are loaded once.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "device_api.h"
#include "kernel_context.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// The modules of one context; models that share weights share these.
class DeviceModules {
  public:
    explicit DeviceModules(std::shared_ptr<DeviceApi> api) : api_(std::move(api)) {}
    ~DeviceModules();
    DeviceModules(const DeviceModules &) = delete;
    DeviceModules &operator=(const DeviceModules &) = delete;

    DeviceApi &api() const { return *api_; }
    /// Loads the source if it is new. Called within enter() and leave() of the API.
    Status get(const char *source, size_t size, void **module);

  private:
    std::shared_ptr<DeviceApi> api_;
    std::mutex mutex_;
    std::map<const char *, void *> loaded_;
};

/// One model's kernels and stream. Generated functions come here through Halide's hooks (device_hooks.cc).
class DeviceLauncher {
  public:
    explicit DeviceLauncher(std::shared_ptr<DeviceModules> modules) : modules_(std::move(modules)) {}
    ~DeviceLauncher();
    DeviceLauncher(const DeviceLauncher &) = delete;
    DeviceLauncher &operator=(const DeviceLauncher &) = delete;

    DeviceApi &api() const { return modules_->api(); }
    /// While preparing, kernels are made and not launched; afterwards only those are launched.
    void begin_preparing() {
        preparing_ = true;
        prepared_ = {};
    }
    Status end_preparing() {
        preparing_ = false;
        return std::move(prepared_);
    }
    bool preparing() const { return preparing_; }
    void use_stream(void *stream) { stream_ = stream; }
    int launches() const { return launches_; }

    /// The module that the next run() takes its kernel from.
    void select(const char *source, int size) {
        source_ = source;
        source_size_ = size;
    }
    /// Returns 0, or -1 with a message in `context`.
    int run(KernelContext &context, const char *name, const LaunchShape &shape,
            const LaunchArguments &arguments) noexcept;

  private:
    Status make(const char *name);

    std::shared_ptr<DeviceModules> modules_;
    void *stream_ = nullptr;
    bool preparing_ = false;
    int launches_ = 0;
    /// An error of preparing, which may be longer than a context's message.
    Status prepared_;
    const char *source_ = nullptr;
    int source_size_ = 0;
    /// By the addresses of source and name, which are constants of the generated objects.
    std::map<std::pair<const char *, const char *>, void *> kernels_;
};

}  // namespace shufflenet::inline SHUFFLENET_ABI
