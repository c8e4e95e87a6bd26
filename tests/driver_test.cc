// Machines without a usable driver: a clear error, and the CPU goes on. Run by CTest with and without drivers.
#include <gtest/gtest.h>

#include <dlfcn.h>

#include <string>

#include "model_graph.h"
#include "reference/random_weights.h"
#include "shufflenet/descriptor.h"
#include "shufflenet/device.h"

extern "C" const shufflenet_descriptor tiny_1x1_descriptor;

namespace shufflenet {
namespace {

const shufflenet_descriptor &descriptor() { return tiny_1x1_descriptor; }

Status open(const char *device) {
    DeviceModel model;
    DeviceOptions options;
    options.device = device;
    return model.open(descriptor(), options);
}

void expect_cpu_works() {
    Model cpu;
    ASSERT_TRUE(cpu.open(descriptor()).ok());
    ASSERT_TRUE(cpu.load_weights(reference::random_safetensors(graph_of(descriptor()), 7), "w").ok());
    const std::vector<float> input(size_t{3} * descriptor().height * descriptor().width);
    std::vector<float> out(cpu.outputs()[0].shape.elements());
    EXPECT_TRUE(cpu.run(input, 1, out).ok());
}

TEST(Driver, IsAbsent) {
    const std::string device = compiled_devices(descriptor());
    const char *library = device == "cuda" ? "libcuda.so.1" : "libOpenCL.so.1";
    if (dlopen(library, RTLD_NOW) != nullptr) GTEST_SKIP() << library << " is on this machine";
    const Status status = open(device.c_str());
    EXPECT_EQ(status.code(), Code::kUnsupported);
    EXPECT_NE(status.message().find(std::string(library) + ": no driver: "), std::string::npos) << status.message();
    expect_cpu_works();
}

TEST(Driver, HasNoPlatform) {
    const Status status = open("opencl");
    EXPECT_EQ(status.code(), Code::kUnsupported);
    EXPECT_NE(status.message().find("opencl: no device"), std::string::npos) << status.message();
    expect_cpu_works();
}

TEST(Driver, IsTooOld) {
    const Status status = open("cuda");
    EXPECT_EQ(status.code(), Code::kUnsupported);
    EXPECT_NE(status.message().find("libcuda.so.1: the driver is too old: it has no cuGraphInstantiateWithFlags"),
              std::string::npos)
        << status.message();
    expect_cpu_works();
}

}  // namespace
}  // namespace shufflenet
