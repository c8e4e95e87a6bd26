// The embedded model on CIFAR-10's test images, through the whole product: decoder, preprocessing, embedded weights
// and metadata, every instruction set. Its accuracy is the one that was measured when it was trained.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cifar10_x0_5.h"
#include "emulated.h"
#include "isa.h"
#include "metadata.h"
#include "shufflenet/image.h"
#include "shufflenet/model.h"

namespace shufflenet {
namespace {

namespace fs = std::filesystem;

constexpr int kBatch = 64;

/// The archive's test images, unpacked while this lives.
class TestImages {
  public:
    explicit TestImages(const std::string &archive) {
        std::string folder = (fs::current_path() / "cifar10.XXXXXX").string();
        if (::mkdtemp(folder.data()) == nullptr) return;
        folder_ = folder;
        const std::string command = "tar -xzf '" + archive + "' -C '" + folder + "' test";
        unpacked_ = std::system(command.c_str()) == 0;
    }
    TestImages(const TestImages &) = delete;
    TestImages &operator=(const TestImages &) = delete;
    ~TestImages() {
        std::error_code ignored;
        if (!folder_.empty()) fs::remove_all(folder_, ignored);
    }

    bool unpacked() const { return unpacked_; }
    /// Paths, sorted; the name of an image's folder is its label.
    std::vector<fs::path> paths() const {
        std::vector<fs::path> paths;
        for (const auto &entry : fs::recursive_directory_iterator(folder_ / "test")) {
            if (entry.is_regular_file()) paths.push_back(entry.path());
        }
        std::ranges::sort(paths);
        return paths;
    }

  private:
    fs::path folder_;
    bool unpacked_ = false;
};

/// The embedded model on one instruction set, and how many images it got right so far.
struct Candidate {
    std::string isa;
    Model model;
    int correct = 0;

    void judge(const std::vector<float> &input, const std::vector<int> &labels) {
        const auto batch = static_cast<int>(labels.size());
        std::vector<float> logits(labels.size() * model.classes());
        const size_t floats = input.size() / kBatch * labels.size();
        const Status status = model.run(std::span(input).first(floats), batch, logits);
        ASSERT_TRUE(status.ok()) << status.message();
        for (size_t i = 0; i < labels.size(); ++i) {
            const auto first = logits.begin() + static_cast<ptrdiff_t>(i * model.classes());
            correct += std::max_element(first, first + model.classes()) - first == labels[i] ? 1 : 0;
        }
    }
};

std::vector<Candidate> open_candidates() {
    std::vector<Candidate> candidates;
    for (int i = 0; i < cifar10_x0_5_descriptor.kernels_count; ++i) {
        const char *isa = cifar10_x0_5_descriptor.kernels[i].isa;
        if (!cpu_has(isa)) continue;
        setenv(kIsaVariable, isa, 1);
        Candidate &c = candidates.emplace_back(Candidate{isa, {}, 0});
        EXPECT_TRUE(c.model.open(cifar10_x0_5_descriptor, 2).ok());
        EXPECT_TRUE(c.model.load_embedded_weights().ok());
        EXPECT_EQ(c.model.isa(), std::string(isa));
    }
    unsetenv(kIsaVariable);
    return candidates;
}

TEST(Cifar10, AccuracyIsTheTrainedOne) {
    const std::string archive = SHUFFLENET_SHARED_DATA "/cifar10-jpeg.tar.gz";
    if (kEmulated) GTEST_SKIP() << "ten thousand images take too long under an emulator";
    if (!fs::exists(archive)) GTEST_SKIP() << "there is no " << archive;
    const auto figures = nlohmann::json::parse(std::ifstream(SHUFFLENET_SOURCE_DIR "/models/cifar10_x0_5.json"));
    const TestImages images(archive);
    ASSERT_TRUE(images.unpacked()) << archive;
    const std::vector<fs::path> paths = images.paths();
    ASSERT_EQ(paths.size(), figures.at("test_images").get<size_t>());

    Metadata metadata;
    ASSERT_TRUE(parse_metadata(cifar10_x0_5_descriptor.metadata, "embedded", &metadata).ok());
    std::map<std::string, int> class_of;
    for (const std::string &label : metadata.labels) class_of.emplace(label, static_cast<int>(class_of.size()));

    std::vector<Candidate> candidates = open_candidates();
    const size_t floats = size_t{3} * CIFAR10_X0_5_HEIGHT * CIFAR10_X0_5_WIDTH;
    std::vector<float> input(kBatch * floats);
    std::vector<int> labels;
    for (size_t i = 0; i < paths.size(); ++i) {
        Image image;
        ASSERT_TRUE(decode_image_file(paths[i].string(), &image).ok()) << paths[i];
        const auto to = std::span(input).subspan(labels.size() * floats, floats);
        ASSERT_TRUE(preprocess(image, metadata.preprocess, to).ok()) << paths[i];
        labels.push_back(class_of.at(paths[i].parent_path().filename().string()));
        if (labels.size() < kBatch && i + 1 < paths.size()) continue;
        for (Candidate &c : candidates) ASSERT_NO_FATAL_FAILURE(c.judge(input, labels)) << c.isa;
        labels.clear();
    }
    for (const Candidate &c : candidates) {
        const double accuracy = static_cast<double>(c.correct) / static_cast<double>(paths.size());
        EXPECT_NEAR(accuracy, figures.at("top1").get<double>(), 0.001) << c.isa;
        RecordProperty(c.isa, c.correct);
        std::cout << c.isa << ": " << c.correct << " of " << paths.size() << " right\n";
    }
}

}  // namespace
}  // namespace shufflenet
