// A basic unit that moves its channels: for the benches, which compare it with branch2 and its table of slots.
#include "generators/kernel_generator.h"

namespace shufflenet::generators {

/// A basic unit in the plain layout: concat and channel shuffle fused into the store of the last convolution. `in` and
/// the outputs hold all channels of a pixel in canonical order. Lanes beyond hold no channel, and nothing reads them.
class ShuffledUnitGenerator : public Kernel<ShuffledUnitGenerator> {
  public:
    GeneratorParam<int> stage{"stage", 2, 2, 4};
    Input<Buffer<float>> in{"in", 2};
    Input<Buffer<float>> weights{"weights", 1};
    Output<Buffer<float>> out{"out", 2};
    Output<Buffer<float>> tail{"tail", 2};

    void generate() {
        const StageShape s = stage_shape(net(), input_size(), stage);
        const int channels = s.branch_channels;
        const int lanes = shuffled_lanes(channels, vec());
        const int pixels = s.out.pixels();
        const Branch2Layout layout = branch2_layout(channels, channels, vec());
        const std::vector<ChannelPart> parts = channel_parts(channels, vec(), machine().vectors());
        const Blob blob = [this](Expr i) { return weights(i); };

        const auto first_half = [this](Expr i, Expr pixel) { return in(i, pixel); };
        const auto second_half = [&](Expr k, Expr pixel) { return in(channels + k, pixel); };
        Branch2 f{c, x, y, p, {}, {}, {}};
        f.pw1 = pointwise("pw1", layout.pw1, parts, pixels, blob, {{channels, 1, second_half}}, c, p);
        std::vector<Activation> expanded;
        for (const Pointwise::Part &part : f.pw1.parts) {
            expanded.emplace_back([pw1 = part.out](Expr lane, Expr pixel) { return pw1(lane, pixel); });
        }
        f.dw = depthwise("dw", layout.dw, parts, s.out, 1, blob, expanded, c, x, y, p);
        f.pw2 =
            pointwise("pw2", layout.pw2, parts, pixels, blob, f.dw.summands(channels, machine().lane_operands), c, p);
        shuffle_with(f.pw2, first_half, c, p);

        struct Stored {
            ChannelPart channels;
            Func out;
        };
        std::vector<Stored> stored;
        for (const Pointwise::Part &part : f.pw2.parts) {
            stored.push_back({{2 * part.channels.first, 2 * part.channels.lanes, part.channels.vec}, part.out});
        }
        fix_block(in, lanes, pixels);
        fix_line(weights, layout.size());
        emit(stored, lanes, pixels, out, tail);
        schedule(f);
    }
};

}  // namespace shufflenet::generators

HALIDE_REGISTER_GENERATOR(shufflenet::generators::ShuffledUnitGenerator, unit_shuffled)
