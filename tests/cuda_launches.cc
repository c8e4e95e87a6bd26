// Prints, of every kernel that the models launch on CUDA: the hash of its PTX, threads of a block, bytes of shared
// memory. Runs on the recording driver of fake_cuda/.
#include <cstdio>
#include <map>

#include "fake_cuda/fake_cuda.h"
#include "reference/random_weights.h"
#include "shufflenet/device.h"
#include "test_models.h"

int main() {
    using namespace shufflenet;
    fake_cuda_reset();
    fake_cuda &fake = *fake_cuda_state();
    std::map<uint64_t, fake_cuda_launch> launches;
    for (const shufflenet_descriptor *d : kTestModels) {
        const auto weights = reference::random_safetensors(*find_network(d->network), d->classes, 7);
        for (const auto fusion : {DeviceOptions::Fusion::kAlways, DeviceOptions::Fusion::kNever}) {
            DeviceModel model;
            DeviceOptions options;
            options.device = "cuda";
            options.max_batch = 1;
            options.fusion = fusion;
            Status status = model.open(*d, options);
            if (status.ok()) status = model.load_weights(weights, "random weights");
            fake.launches = 0;
            const std::vector<float> input(size_t{3} * d->height * d->width);
            std::vector<float> logits(d->classes), conv5(model.feature_shape(Feature::kConv5).elements());
            const FeatureRequest feature{Feature::kConv5, Layout::kNCHW, conv5};
            if (status.ok()) status = model.run(input, 1, logits, {&feature, 1});
            if (!status.ok() || fake.misuse[0] != '\0') {
                std::fprintf(stderr, "%s: %s %s\n", d->name, status.message().c_str(), fake.misuse);
                return 1;
            }
            for (int i = 0; i < fake.launches; ++i) launches[fake.launch[i].ptx_hash] = fake.launch[i];
        }
    }
    for (const auto &[hash, l] : launches) {
        std::printf("%llu %u %u\n", static_cast<unsigned long long>(hash), l.threads[0] * l.threads[1] * l.threads[2],
                    l.shared_bytes);
    }
}
