// A model's weights and tables on a device.
#pragma once

#include <memory>
#include <vector>

#include "aligned_array.h"
#include "device_launcher.h"
#include "device_memory.h"
#include "pack.h"
#include "shufflenet/descriptor.h"

namespace shufflenet::inline SHUFFLENET_ABI {

/// What a call has of them, on the device and on the host.
struct DeviceConstants {
    DeviceMemory weights, table;
    std::span<const float> host_weights;
    AlignedArray<int32_t> host_table;
};

/// Those of all calls, for planes of so many images. Shared between models.
class DeviceWeights {
  public:
    explicit DeviceWeights(std::shared_ptr<DeviceModules> modules) : modules_(std::move(modules)) {}
    ~DeviceWeights();
    DeviceWeights(const DeviceWeights &) = delete;
    DeviceWeights &operator=(const DeviceWeights &) = delete;

    /// Copies to the device are enqueued.
    Status upload(const shufflenet_device &device, int images, std::shared_ptr<const PackedWeights> packed,
                  void *stream);
    const PackedWeights &packed() const { return *packed_; }
    const DeviceConstants &of_call(int number) const { return calls_[number]; }

  private:
    Status upload_call(const shufflenet_device &device, int images, int number, void *stream);

    std::shared_ptr<DeviceModules> modules_;
    std::shared_ptr<const PackedWeights> packed_;
    std::vector<DeviceConstants> calls_;
};

}  // namespace shufflenet::inline SHUFFLENET_ABI
