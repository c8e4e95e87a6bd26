// What the versions of a kernel are timed on: everything that it reads and writes, of a CPU or of a device.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace shufflenet::bench {

class Bed {
  public:
    virtual ~Bed() = default;
    Bed(const Bed &) = delete;
    Bed &operator=(const Bed &) = delete;

    /// Puts a version of the kernel, a function of its shared object, in its place.
    virtual void use(void *function) = 0;
    /// All that the kernel may have written, or what follows from that, after a run on the same data as ever.
    virtual std::vector<float> outputs() = 0;
    /// How the kernel runs from now on: on so many threads, or on so many images.
    virtual void set_count(int count) = 0;
    /// Microseconds of one call.
    virtual double time() = 0;

    /// The device, as its driver names it; empty: a CPU.
    virtual std::string device() const { return ""; }

  protected:
    Bed() = default;
};

/// As kernel_trial's request describes them. `oracle`: the first shared object's handle, which the device's bed takes
/// all other kernels from.
std::unique_ptr<Bed> make_device_bed(const nlohmann::json &request, void *oracle);

}  // namespace shufflenet::bench
