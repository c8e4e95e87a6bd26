// Inputs with one value that is not finite, and whether outputs show it as the naive reference's do.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <limits>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "expected.h"

namespace shufflenet {

/// Where in an image, and what.
struct Spot {
    const char *place;
    int channel;
    float value;

    size_t index(Size size) const {
        const std::string at = place;
        const int pixel = at == "first"    ? 0
                          : at == "middle" ? size.height / 2 * size.width + size.width / 2
                                           : size.pixels() - 1;
        return size_t(channel) * size.pixels() + pixel;
    }
    friend std::ostream &operator<<(std::ostream &out, const Spot &s) {
        return out << s.value << " in channel " << s.channel << " of the " << s.place << " pixel";
    }
};

/// Every place, channel and value; of a model whose reference takes long, each of them once.
inline std::vector<Spot> spots_of(const shufflenet_descriptor &model) {
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();
    constexpr int64_t kMultiplyAdds = 20'000'000;
    if (total_cost(graph_of(model)).flops > kMultiplyAdds) {
        return {{"first", 0, kNan}, {"middle", 1, -kInfinity}, {"last", 2, -kNan}};
    }
    std::vector<Spot> spots;
    for (const char *place : {"first", "middle", "last"}) {
        for (int channel = 0; channel < 3; ++channel) {
            for (const float value : {kNan, -kNan, kInfinity, -kInfinity}) spots.push_back({place, channel, value});
        }
    }
    return spots;
}

inline std::vector<float> with_spot(std::span<const float> image, const Spot &spot, Size size) {
    std::vector<float> spoilt(image.begin(), image.end());
    spoilt.at(spot.index(size)) = spot.value;
    return spoilt;
}

/// An output in words, all finite values alike.
inline std::string kind_of(double value) {
    if (std::isnan(value)) return "not a number";
    if (std::isinf(value)) return value > 0 ? "infinity" : "minus infinity";
    return "finite";
}

/// What is finite there is finite here, and near; all else is the same infinity, or not a number as well.
inline void expect_same_kinds(std::span<const float> found, std::span<const double> expected,
                              double tolerance = kTolerance) {
    ASSERT_EQ(found.size(), expected.size());
    std::vector<float> finite;
    std::vector<double> reference;
    for (size_t i = 0; i < found.size(); ++i) {
        ASSERT_EQ(kind_of(found[i]), kind_of(expected[i])) << "element " << i << " of " << found.size();
        if (!std::isfinite(expected[i])) continue;
        finite.push_back(found[i]);
        reference.push_back(expected[i]);
    }
    if (!finite.empty()) {
        EXPECT_LE(worst_error(finite, reference), tolerance);
    }
}

/// Runs a model with random weights on an image with each of the spots in turn, and on the image as it was. `expected`
/// returns the reference's outputs of an image with a spot.
template <typename M, typename Expect>
void expect_spots_show(M &model, const shufflenet_descriptor &d, std::span<const float> image, const Expect &expected) {
    const auto good = outputs_of(model, image, 1);
    for (const Spot &spot : spots_of(d)) {
        SCOPED_TRACE(testing::Message() << spot);
        const std::vector<float> spoilt = with_spot(image, spot, {d.height, d.width});
        const auto found = outputs_of(model, spoilt, 1);
        const std::vector<reference::Tensor> &outputs = expected(spot);
        ASSERT_EQ(found.size(), outputs.size());
        for (size_t i = 0; i < found.size(); ++i) {
            SCOPED_TRACE("output " + std::to_string(i));
            expect_same_kinds(found[i], outputs[i].data, tolerance_of(d));
        }
        expect_same_kinds(first_output_of(model, spoilt, 1), outputs[0].data, tolerance_of(d));
        // The pool over all pixels brings it to every logit.
        if (std::isnan(spot.value) && d.classes > 0) {
            for (const float logit : found[0]) ASSERT_TRUE(std::isnan(logit));
        }
        // Nothing of it is left in the arena.
        ASSERT_EQ(outputs_of(model, image, 1), good);
    }
}

}  // namespace shufflenet
