// The paper's Table 8, of the networks that this project has: Ma, Zhang, Zheng, Sun: ShuffleNet V2, ECCV 2018.
#pragma once

#include <array>
#include <string_view>

namespace shufflenet::bench {

/// Complexity in millions of multiply-adds, top-1 error on ImageNet in per cent, and speed: GPU (GTX 1080Ti, batches of
/// 8 a second) and ARM (Snapdragon 810, images a second).
struct Table8Row {
    std::string_view network;
    int mflops;
    double error, gpu, arm;
};

inline constexpr std::array<Table8Row, 22> kTable8 = {{
    {"shufflenet_v2_x0_5", 41, 39.7, 417, 57.0},  {"mobilenet_v1_x0_25", 41, 49.4, 502, 36.4},
    {"mobilenet_v2_x0_4", 43, 43.4, 333, 33.2},   {"mobilenet_v2_x0_15", 39, 55.1, 351, 33.6},
    {"shufflenet_v1_x0_5", 38, 43.2, 347, 56.8},  {"xception_x0_5", 40, 44.9, 384, 52.9},
    {"shufflenet_v2_x1_0", 146, 30.6, 341, 24.4}, {"mobilenet_v1_x0_5", 149, 36.3, 382, 16.5},
    {"mobilenet_v2_x0_75", 145, 32.1, 235, 15.9}, {"mobilenet_v2_x0_6", 141, 33.3, 249, 14.9},
    {"shufflenet_v1_x1_0", 140, 32.6, 213, 21.8}, {"xception_x1_0", 145, 34.1, 278, 19.5},
    {"shufflenet_v2_x1_5", 299, 27.4, 255, 11.8}, {"mobilenet_v1_x0_75", 325, 31.6, 314, 10.6},
    {"mobilenet_v2_x1_0", 300, 28.0, 180, 8.9},   {"shufflenet_v1_x1_5", 292, 28.5, 164, 10.3},
    {"xception_x1_5", 305, 29.4, 219, 10.5},      {"shufflenet_v2_x2_0", 591, 25.1, 217, 6.7},
    {"mobilenet_v1_x1_0", 569, 29.4, 247, 6.5},   {"mobilenet_v2_x1_4", 585, 25.3, 137, 5.4},
    {"shufflenet_v1_x2_0", 524, 26.3, 133, 6.4},  {"xception_x2_0", 525, 27.6, 174, 6.7},
}};

/// The row of a network, or nullptr.
constexpr const Table8Row *find_table8(std::string_view network) {
    for (const Table8Row &row : kTable8) {
        if (row.network == network) return &row;
    }
    return nullptr;
}

}  // namespace shufflenet::bench
