#include "backbone.h"

#include "argument.h"
#include "networks/targets.h"
#include "run_check.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

Name unit_name(int number, int unit) { return Name("stage") + number + "_unit" + unit; }

}  // namespace

FeatureShape Backbone::feature_shape(Feature feature) const {
    if (chain) return {};
    return shufflenet::feature_shape(*network, stages, feature);
}

Backbone make_backbone(const shufflenet_descriptor &descriptor, const shufflenet_kernels &kernels,
                       const Network &network) {
    constexpr int vec = kPanelFloats;
    Backbone b;
    b.descriptor = &descriptor;
    b.kernels = &kernels;
    b.network = &network;
    b.input = {descriptor.height, descriptor.width};
    b.arena = arena_layout(network, b.input, vec);
    b.stem = stem_block(network, b.input, vec);
    for (int s = 0; s < kStages; ++s) {
        b.stages[s] = stage_shape(network, b.input, s + 2);
        b.blocks[s] = stage_block(b.stages[s], vec);
    }
    const VectorUnit machine = find_target(kernels.isa)->vectors();
    b.stem_parts = two_parts(stem_parts(network, vec, machine));
    for (int s = 0; s < kStages; ++s) {
        const StageShape &shape = b.stages[s];
        b.unit_parts[s] = {two_parts(branch1_parts(network, b.input, s + 2, vec, machine)),
                           two_parts(branch2_parts(shape, true, vec, machine)),
                           two_parts(branch2_parts(shape, false, vec, machine))};
    }
    b.conv5_lanes = conv5_layout(network, vec).lanes;
    b.arena_size = b.arena.size;
    b.pooled = b.arena.pooled;
    b.pooled_stride = pooled_stride(network);
    b.pooled_channels = network.conv5_channels;
    return b;
}

Backbone make_backbone(const shufflenet_descriptor &descriptor, const shufflenet_kernels &kernels,
                       const Comparison &comparison) {
    Backbone b;
    b.descriptor = &descriptor;
    b.kernels = &kernels;
    b.input = {descriptor.height, descriptor.width};
    ChainPlan &plan = b.chain.emplace();
    plan.chain = comparison.chain(b.input);
    plan.arena = chain_arena(plan.chain);
    plan.kernels = step_kernels(plan.chain);
    b.arena_size = plan.arena.size;
    b.pooled = plan.arena.pooled;
    b.pooled_stride = plan.arena.pooled_stride;
    b.pooled_channels = plan.chain.features();
    return b;
}

bool ImageRun::check(int result, const Name &id) {
    if (result == 0 && !context_.error->failed.load(std::memory_order_relaxed)) return true;
    failed_ = id;
    return false;
}

bool ImageRun::stem(const float *image) {
    const auto [height, width] = b_.input;
    Argument in(image, {{width, 1}, {height, width}, {3, width * height}});
    Argument weights(w_.stem.weights);
    Argument out(arena_ + b_.arena.stem, b_.stem, b_.stem_parts[0]);
    Argument tail(arena_ + b_.arena.stem, b_.stem, b_.stem_parts[1]);
    return check(b_.kernels->stem(&context_, in.get(), weights.get(), out.get(), tail.get()), "stem");
}

bool ImageRun::unit(int number, int unit) {
    const int s = number - 2;
    const BlockLayout &block = b_.blocks[s];
    const UnitWeights &w = w_.stages[s][unit];
    float *own = arena_ + b_.arena.stage[s];
    const bool down = unit == 0;
    // A downsampling unit reads the stage before, a basic unit the blocks of its own stage.
    const BlockLayout &in_block = !down ? block : s == 0 ? b_.stem : b_.blocks[s - 1];
    const float *in_data = !down ? own : arena_ + (s == 0 ? b_.arena.stem : b_.arena.stage[s - 1]);
    Argument in(in_data, {{in_block.size(), 1}});
    const auto run = [&](shufflenet_branch_fn kernel, const KernelWeights &from, const TwoParts &parts, int to,
                         const char *branch) {
        Argument table(from.table);
        Argument weights(from.weights);
        const float *start = own + to * block.block_stride();
        Argument out(start, block, parts[0]);
        Argument tail(start, block, parts[1]);
        return check(kernel(&context_, in.get(), table.get(), weights.get(), out.get(), tail.get()),
                     unit_name(number, unit) + branch);
    };
    const UnitParts &parts = b_.unit_parts[s];
    if (!down) return run(b_.kernels->basic[s], w.branch2, parts.basic, unit + 1, "_branch2");
    return run(b_.kernels->down_branch1[s], w.branch1, parts.down_branch1, 0, "_branch1") &&
           run(b_.kernels->down_branch2[s], w.branch2, parts.down_branch2, 1, "_branch2");
}

bool ImageRun::stage(int number) {
    for (int u = 0; u < b_.stages[number - 2].units; ++u) {
        if (!unit(number, u)) return false;
    }
    return true;
}

bool ImageRun::conv5() {
    Argument in(arena_ + b_.arena.stage[kStages - 1], {{b_.blocks.back().size(), 1}});
    Argument table(w_.conv5.table);
    Argument weights(w_.conv5.weights);
    Argument out(arena_ + b_.arena.conv5, {{b_.conv5_lanes, 1}, {b_.blocks.back().pixels, b_.conv5_lanes}});
    return check(b_.kernels->conv5(&context_, in.get(), table.get(), weights.get(), out.get()), "conv5");
}

bool ImageRun::pool(float *pooled) {
    Argument in(arena_ + b_.arena.stage[kStages - 1], {{b_.blocks.back().size(), 1}});
    Argument table(w_.conv5.table);
    Argument weights(w_.conv5.weights);
    Argument out(pooled, {{b_.conv5_lanes, 1}});
    return check(b_.kernels->conv5_pool(&context_, in.get(), table.get(), weights.get(), out.get()), "conv5_pool");
}

bool ImageRun::step(int number, const float *image, float *pooled) {
    const ChainPlan &plan = *b_.chain;
    const std::vector<Step> &steps = plan.chain.steps;
    const Step &s = steps[number];
    // A concatenated shortcut's average, the step before, is in the same tensor.
    const bool concat = s.shortcut == Shortcut::kConcat;
    const float *from = number == 0 ? image : arena_ + plan.arena.out[concat ? number - 2 : number - 1];
    const int in_lanes = s.kind == StepKind::kStem ? s.in_channels : chain_lanes(s.in_channels);
    float *to = s.kind == StepKind::kHead ? pooled : arena_ + plan.arena.out[number];
    int lanes = out_lanes(s), computed = lanes, groups = 1, group_stride = lanes;
    if (s.kind == StepKind::kUnit) {
        to += s.out_channels - s.projected();
        computed = unit_layout(s).project.lanes;
        groups = s.project_groups;
        group_stride = s.projected() / groups;
    } else if (s.kind == StepKind::kAveragePool) {
        lanes = out_lanes(steps[number + 1]);
    } else if (s.kind == StepKind::kHead && s.expanded > 0) {
        lanes = computed = group_stride = chain_head_layout(s).lanes;
    }
    Argument in(from, {{in_lanes * s.in.pixels(), 1}});
    Argument weights(w_.steps[number].weights);
    Argument out(to, {{computed, 1}, {s.out.pixels(), lanes}, {groups, group_stride}});
    return check(b_.kernels->steps[plan.kernels[number]](&context_, in.get(), weights.get(), out.get()),
                 Name("step") + number);
}

bool ImageRun::fully_connected(const float *pooled, int images, float *logits) {
    Argument in(pooled, {{b_.pooled_channels, 1}, {images, b_.pooled_stride}});
    Argument weights(w_.fc.weights);
    Argument out(logits, {{w_.classes, 1}, {images, w_.classes}});
    return check(b_.kernels->fc(&context_, in.get(), w_.classes, weights.get(), out.get()), "fc");
}

const float *feature_data(const Backbone &backbone, const float *arena, Feature feature) {
    if (feature == Feature::kConv5) return arena + backbone.arena.conv5;
    return arena + backbone.arena.stage[static_cast<int>(feature)];
}

int feature_pixel_stride(const Backbone &backbone, Feature feature) {
    if (feature == Feature::kConv5) return backbone.conv5_lanes;
    return backbone.blocks[static_cast<int>(feature)].lanes();
}

void copy_feature(const Backbone &backbone, const PackedWeights &weights, const float *arena, Feature feature,
                  Layout layout, float *out) {
    const FeatureShape shape = backbone.feature_shape(feature);
    const int pixels = shape.height * shape.width;
    const int stride = feature_pixel_stride(backbone, feature);
    const float *data = feature_data(backbone, arena, feature);
    const std::vector<int32_t> &offset = weights.channel_offset[static_cast<int>(feature)];
    const int channel_step = layout == Layout::kNCHW ? pixels : 1;
    const int pixel_step = layout == Layout::kNCHW ? 1 : shape.channels;
    for (int c = 0; c < shape.channels; ++c) {
        for (int p = 0; p < pixels; ++p) out[c * channel_step + p * pixel_step] = data[offset[c] + p * stride];
    }
}

}  // namespace shufflenet::inline SHUFFLENET_ABI
