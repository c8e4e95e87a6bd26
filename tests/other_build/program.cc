// ENTRY is main(), or a function that another one calls: PICTURE WEIGHTS. Prints the preprocessed picture, the logits
// of MODEL with embedded weights, and the errors for what is not finite: in WEIGHTS, in a mean, in a standard
// deviation. What it prints does not depend on how this file, or the library, was compiled.
#include <array>
#include <cstdio>
#include <limits>
#include <vector>

#include "shufflenet/image.h"
#include "shufflenet/model.h"

#define JOIN_TOKENS(a, b) a##b
#define JOIN(a, b) JOIN_TOKENS(a, b)

extern "C" const shufflenet_descriptor JOIN(MODEL, _descriptor);
int ENTRY(int argc, char **argv);
#ifdef OTHER_MODEL
extern "C" const shufflenet_descriptor JOIN(OTHER_MODEL, _descriptor);
#endif

namespace {

using shufflenet::Status;

void print(const char *what, const std::vector<float> &values) {
    std::printf("%s", what);
    for (const float value : values) std::printf(" %a", double{value});
    std::printf("\n");
}

void print(const char *what, const Status &status) { std::printf("%s %s\n", what, status.message().c_str()); }

void print_refusals(const shufflenet::Image &image, shufflenet::Preprocess how, std::vector<float> *input) {
    using Limits = std::numeric_limits<float>;
    for (const float bad : {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity()}) {
        const std::array<float, 3> mean = how.mean;
        how.mean[1] = bad;
        std::printf("mean: %s\n", shufflenet::preprocess(image, how, *input).ok() ? "accepted" : "refused");
        how.mean = mean;
        const std::array<float, 3> deviation = how.std;
        how.std[2] = bad;
        std::printf("std: %s\n", shufflenet::preprocess(image, how, *input).ok() ? "accepted" : "refused");
        how.std = deviation;
    }
}

}  // namespace

int ENTRY(int argc, char **argv) {
    if (argc != 3) return 2;
    shufflenet::Model model;
    shufflenet::Image image;
    std::vector<float> input(3 * 64 * 64), logits(10);
    const shufflenet::Preprocess how = {70, 64, 64, {0.5F, 0.25F, 0.125F}, {0.3F, 0.2F, 0.1F}};
    Status status = model.open(JOIN(MODEL, _descriptor), 2);
    if (status.ok()) status = model.load_embedded_weights();
    if (status.ok()) status = shufflenet::decode_image_file(argv[1], &image);
    if (status.ok()) status = shufflenet::preprocess(image, how, input);
    if (status.ok()) status = model.run(input, 1, logits);
    print("status:", status);
    print("input:", input);
    print("logits:", logits);
    print_refusals(image, how, &input);
    print("weights:", model.load_weights(std::string(argv[2])));
#ifdef OTHER_MODEL
    print("other:", shufflenet::Model().open(JOIN(OTHER_MODEL, _descriptor)));
#endif
    return status.ok() ? 0 : 1;
}
