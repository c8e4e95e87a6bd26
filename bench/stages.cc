#include "stages.h"

#include <algorithm>
#include <stdexcept>

#include "cache_line.h"
#include "runtime/src/checkpoint.h"
#include "runtime/src/isa.h"
#include "runtime/src/safetensors.h"

namespace shufflenet::bench {

namespace {

void check(const Status &status) {
    if (!status.ok()) throw std::runtime_error(status.message());
}

}  // namespace

Pieces::Pieces(const shufflenet_descriptor &descriptor, const Workload &workload, int threads)
    : workload_(workload), layers_(network_layers(workload.network(), workload.size(), descriptor.classes)) {
    check(choose_kernels(descriptor, &kernels_));
    backbone_ = make_backbone(descriptor, *kernels_, *workload.network().shufflenet_v2());
    Safetensors tensors;
    check(Safetensors::parse(workload.safetensors(), "random weights", &tensors));
    check(pack_weights(tensors, "random weights", workload.network(), workload.size(), kPanelFloats, &weights_));
    scratch_memory_.resize(threads);
    for (auto &memory : scratch_memory_) {
        if (!memory.allocate(kScratchBytes)) throw std::bad_alloc();
        scratch_.push_back({.begin = memory.data(), .size = memory.size()});
    }
    if (!arena_.allocate(backbone_.arena.size)) throw std::bad_alloc();
    logits_.resize(descriptor.classes);
    check(pool_.start(threads));
    context_.pool = &pool_;
    context_.scratch = scratch_.data();
    run_ = std::make_unique<ImageRun>(backbone_, weights_, arena_.data(), context_);

    float *pooled = arena_.data() + backbone_.arena.pooled;
    stages_.push_back(
        piece("stem", {"stem_"}, [this] { return run_->stem(workload_.input().data()); }, {&weights_.stem}));
    for (int number = 2; number < 2 + kStages; ++number) add_stage(number);
    stages_.push_back(
        piece("conv5_pool", {"conv5", "pool"}, [this, pooled] { return run_->pool(pooled); }, {&weights_.conv5}));
    stages_.push_back(piece("fc", {"fc"}, [this, pooled] { return run_->fully_connected(pooled, 1, logits_.data()); },
                            {&weights_.fc}));
}

void Pieces::add_stage(int number) {
    const std::string name = "stage" + std::to_string(number);
    std::vector<const KernelWeights *> all;
    for (int u = 0; u < backbone_.stages[number - 2].units; ++u) {
        const UnitWeights &unit = weights_.stages[number - 2][u];
        const std::string id = name + "_unit" + std::to_string(u);
        units_.push_back(
            piece(id, {id + "_"}, [this, number, u] { return run_->unit(number, u); }, {&unit.branch1, &unit.branch2}));
        all.insert(all.end(), {&unit.branch1, &unit.branch2});
    }
    stages_.push_back(piece(
        name, {name + "_"}, [this, number] { return run_->stage(number); }, all));
}

Piece Pieces::piece(const std::string &name, const std::vector<std::string> &prefixes, std::function<bool()> run,
                    std::vector<const KernelWeights *> weights) const {
    Piece result{name, 0, 0, std::move(run), std::move(weights)};
    const auto mine = [&](const Layer &layer) {
        return std::ranges::any_of(prefixes, [&](const std::string &p) { return layer.id.view().starts_with(p); });
    };
    const Layer *first = nullptr, *last = nullptr;
    int64_t floats = 0;
    for (const Layer &layer : layers_) {
        if (!mine(layer)) continue;
        if (first == nullptr) first = &layer;
        last = &layer;
        result.flops += 2.0 * static_cast<double>(layer.flops());
        floats += layer.weight_elements();
    }
    // The branches of a stage's first unit read the whole input; a unit's output is both halves.
    const bool unit = name.find("_unit") != std::string::npos, stage = name.starts_with("stage");
    const bool halves = stage && (!unit || name.ends_with("_unit0"));
    floats += int64_t{first->in.pixels()} * first->in_channels;
    floats += int64_t{last->out.pixels()} * last->out_channels * (halves ? 2 : 1);
    result.bytes = static_cast<double>(sizeof(float)) * static_cast<double>(floats);
    return result;
}

void Pieces::evict(const Piece &piece) {
    for (const KernelWeights *kernel : piece.weights) {
        for (size_t i = 0; i < kernel->weights.size(); i += kLineFloats) evict_line(kernel->weights.data() + i);
    }
}

}  // namespace shufflenet::bench
