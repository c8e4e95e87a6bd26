// Prints, of every kernel that the models launch on CUDA: the hash of its PTX, threads of a block, bytes of shared
// memory. Runs on the recording driver of fake_cuda/.
#include <cstdio>
#include <map>

#include "fake_cuda/fake_cuda.h"
#include "model_graph.h"
#include "reference/random_weights.h"
#include "shufflenet/device.h"
#include "test_models.h"

int main() {
    using namespace shufflenet;
    fake_cuda_reset();
    fake_cuda &fake = *fake_cuda_state();
    std::map<uint64_t, fake_cuda_launch> launches;
    for (const shufflenet_descriptor *d : kTestModels) {
        DeviceModel model;
        DeviceOptions options;
        options.device = "cuda";
        options.max_batch = 1;
        Status status = model.open(*d, options);
        if (status.ok()) status = model.load_weights(reference::random_safetensors(graph_of(*d), 7), "random weights");
        fake.launches = 0;
        const std::vector<float> input(size_t{3} * d->height * d->width);
        if (status.ok()) status = model.run(input, 1, std::span<const OutputRequest>());
        if (!status.ok() || fake.misuse[0] != '\0') {
            std::fprintf(stderr, "%s: %s %s\n", d->name, status.message().c_str(), fake.misuse);
            return 1;
        }
        for (int i = 0; i < fake.launches; ++i) launches[fake.launch[i].ptx_hash] = fake.launch[i];
    }
    for (const auto &[hash, l] : launches) {
        std::printf("%llu %u %u\n", static_cast<unsigned long long>(hash), l.threads[0] * l.threads[1] * l.threads[2],
                    l.shared_bytes);
    }
}
