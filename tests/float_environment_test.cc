// A model's results are the same bits in whatever floating-point environment the program calls it.
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <vector>

#include "emulated.h"
#include "host_environment.h"
#include "reference/random_weights.h"
#include "shufflenet/model.h"
#include "x0_5_33x47.h"

namespace shufflenet {
namespace {

using Bits = std::vector<uint32_t>;

/// Random weights, with half of the classes' logits too small to be normal numbers.
const std::vector<std::byte> &weights() {
    static const std::vector<std::byte> file = [] {
        auto tensors = reference::random_state_dict(graph_of(x0_5_33x47_descriptor), 3);
        for (reference::NamedTensor &tensor : tensors) {
            if (!tensor.name.starts_with("fc.")) continue;
            for (size_t i = 0; i < tensor.values.size() / 2; ++i) tensor.values[i] *= 1e-40F;
        }
        return reference::to_safetensors(tensors);
    }();
    return file;
}

constexpr int kBatch = 4;

/// An ordinary image, one of numbers too small to be normal, one of large ones, and one of those that are none.
const std::vector<float> &input() {
    static const std::vector<float> values = [] {
        auto images = reference::random_input({X0_5_33X47_HEIGHT, X0_5_33X47_WIDTH}, kBatch, 3);
        const size_t image = images.size() / kBatch;
        for (size_t i = 0; i < image; ++i) {
            images[image + i] *= 1e-40F;
            images[2 * image + i] *= 1e38F;
            if (i % 7 == 0) images[3 * image + i] = std::numeric_limits<float>::infinity();
            if (i % 7 == 1) images[3 * image + i] = std::numeric_limits<float>::quiet_NaN();
        }
        return images;
    }();
    return values;
}

/// A model and room for its outputs, made before the environment is.
struct Runner {
    Model model;
    std::vector<float> logits = std::vector<float>(kBatch * X0_5_33X47_CLASSES), conv5;
    bool ok = true;

    void open(int threads) {
        ok = ok && model.open(x0_5_33x47_descriptor, threads).ok() && model.load_weights(weights(), "weights").ok();
        conv5.resize(kBatch * model.output_shape("conv5").elements());
    }
    void run() {
        const OutputRequest requests[] = {{"logits", Layout::kNCHW, logits}, {"conv5", Layout::kNHWC, conv5}};
        ok = ok && model.run(input(), kBatch, requests).ok();
    }
    /// Bits, because a NaN is not equal to itself.
    Bits bits() const {
        Bits all;
        for (const auto *values : {&logits, &conv5}) {
            for (const float value : *values) all.push_back(std::bit_cast<uint32_t>(value));
        }
        return all;
    }
};

TEST(FloatEnvironment, ChangesNoBit) {
    Runner reference;
    reference.open(1);
    reference.run();
    ASSERT_TRUE(reference.ok);
    const Bits expected = reference.bits();
    ASSERT_EQ(std::fpclassify(reference.logits[0]), FP_SUBNORMAL) << "flushing it would not show";
    const std::vector<int> thread_counts = kEmulated ? std::vector{2} : std::vector{1, 2, 3, 8};
    for (const HostEnvironment &host : host_environments()) {
        for (const int threads : thread_counts) {
            for (const bool opened_before : {false, true}) {
                Runner runner;
                bool untouched = false;
                if (opened_before) runner.open(threads);
                {
                    const InHostEnvironment environment(host);
                    if (!opened_before) runner.open(threads);
                    runner.run();
                    untouched = environment.untouched();
                }
                const std::string what = std::string(host.name) + ", " + std::to_string(threads) + " threads, opened " +
                                         (opened_before ? "before" : "in it");
                EXPECT_TRUE(runner.ok) << what;
                EXPECT_TRUE(untouched) << what;
                EXPECT_EQ(runner.bits(), expected) << what;
            }
            // What was made there runs as well elsewhere.
            std::optional<InHostEnvironment> environment(host);
            Runner runner;
            runner.open(threads);
            environment.reset();
            runner.run();
            EXPECT_EQ(runner.bits(), expected) << host.name << ", " << threads << " threads, run elsewhere";
        }
    }
}

}  // namespace
}  // namespace shufflenet
