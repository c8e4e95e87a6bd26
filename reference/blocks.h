// Blocks (networks/blocks.h) in naive double precision, with random weights.
#pragma once

#include "networks/blocks.h"
#include "random_weights.h"
#include "reference.h"

namespace shufflenet::reference {

/// Weights and bias of each operation of a block; empty for those without.
using BlockWeights = std::vector<LayerWeights>;

/// Values are representable as float. Rows have about the variance of their inputs.
inline BlockWeights random_block_weights(const Block &block, uint64_t seed) {
    BlockWeights weights(block.operations.size());
    for (size_t i = 0; i < weights.size(); ++i) {
        const Operation &op = block.operations[i];
        if (op.kind != OperationKind::kConv) continue;
        const std::string name = std::string(block.name.view()) + "." + std::to_string(i);
        const Stream weight(seed, name + ".weight"), bias(seed, name + ".bias");
        const double fan_in = double(op.weight_elements()) / op.out_channels;
        for (int64_t k = 0; k < op.weight_elements(); ++k) {
            weights[i].weights.push_back(static_cast<float>(weight.normal(k, (op.relu ? 2 : 1) / fan_in)));
        }
        for (int co = 0; co < op.out_channels; ++co) {
            weights[i].bias.push_back(static_cast<float>(bias.uniform(co) - 0.5));
        }
    }
    return weights;
}

/// About N(0, 1), representable as float.
inline Tensor random_tensor(const TensorLayout &shape, uint64_t seed) {
    Tensor tensor(shape.channels, shape.size.height, shape.size.width);
    const Stream stream(seed, "tensor");
    for (size_t i = 0; i < tensor.data.size(); ++i) tensor.data[i] = static_cast<float>(stream.normal(i, 1));
    return tensor;
}

/// A convolution with a square window, padding window / 2, and groups. A tap at a time, so that the innermost loop is
/// along a row.
inline Tensor convolution(const Tensor &in, const Operation &op, const LayerWeights &w) {
    Tensor out(op.out_channels, op.out_size.height, op.out_size.width);
    const int inputs = op.in_channels / op.groups, outputs = op.out_channels / op.groups;
    for (int co = 0; co < op.out_channels; ++co) {
        std::ranges::fill(out.plane(co), w.bias[co]);
        for (int tap = 0; tap < inputs * op.kernel * op.kernel; ++tap) {
            const int ci = co / outputs * inputs + tap / (op.kernel * op.kernel);
            const int ky = tap / op.kernel % op.kernel - op.kernel / 2, kx = tap % op.kernel - op.kernel / 2;
            const double weight = w.weights[size_t(co) * inputs * op.kernel * op.kernel + tap];
            for (int y = 0; y < out.height; ++y) {
                const int iy = y * op.stride + ky;
                if (iy < 0 || iy >= in.height) continue;
                for (int x = 0; x < out.width; ++x) {
                    const int ix = x * op.stride + kx;
                    if (ix >= 0 && ix < in.width) out.at(co, y, x) += weight * in.at(ci, iy, ix);
                }
            }
        }
    }
    return op.relu ? relu(std::move(out)) : out;
}

/// A 3x3 pool over what is within the border.
inline Tensor pool3x3(const Tensor &in, bool mean, int stride) {
    Tensor out(in.channels, strided(in.height, stride), strided(in.width, stride));
    for (int c = 0; c < in.channels; ++c) {
        for (int y = 0; y < out.height; ++y) {
            for (int x = 0; x < out.width; ++x) {
                const int cy = y * stride, cx = x * stride;
                double sum = 0, most = in.at(c, cy, cx);
                int count = 0;
                for (int iy = std::max(0, cy - 1); iy <= std::min(in.height - 1, cy + 1); ++iy) {
                    for (int ix = std::max(0, cx - 1); ix <= std::min(in.width - 1, cx + 1); ++ix, ++count) {
                        sum += in.at(c, iy, ix);
                        most = max_or_nan(most, in.at(c, iy, ix));
                    }
                }
                out.at(c, y, x) = mean ? sum / count : most;
            }
        }
    }
    return out;
}

/// All tensors of a block, its input first.
inline std::vector<Tensor> run_block(const Block &block, const BlockWeights &weights, const Tensor &input) {
    std::vector<Tensor> tensors = {input};
    for (size_t i = 0; i < block.operations.size(); ++i) {
        const Operation &op = block.operations[i];
        Tensor result = tensors[op.in[0]];
        switch (op.kind) {
        case OperationKind::kConv:
            result = convolution(result, op, weights[i]);
            break;
        case OperationKind::kRelu:
            result = relu(std::move(result));
            for (double &value : result.data) value = op.limit > 0 && value > op.limit ? op.limit : value;
            break;
        case OperationKind::kSlice:
            result = Tensor(op.out_channels, result.height, result.width);
            for (int c = 0; c < op.out_channels; ++c) {
                std::ranges::copy(tensors[op.in[0]].plane(op.first + c), result.plane(c).begin());
            }
            break;
        case OperationKind::kGlobalPool: {
            const std::vector<double> means = global_average(result);
            result = Tensor(op.out_channels, 1, 1);
            result.data = means;
            break;
        }
        case OperationKind::kAdd:
            for (size_t k = 0; k < result.data.size(); ++k) result.data[k] += tensors[op.in[1]].data[k];
            break;
        case OperationKind::kConcat:
            for (size_t k = 1; k < op.in.size(); ++k) result = concat(result, tensors[op.in[k]]);
            break;
        case OperationKind::kShuffle:
            result = shuffle(result, op.groups);
            break;
        case OperationKind::kMaxPool:
        case OperationKind::kAveragePool:
            result = pool3x3(result, op.kind == OperationKind::kAveragePool, op.stride);
            break;
        }
        tensors.push_back(std::move(result));
    }
    return tensors;
}

}  // namespace shufflenet::reference
