#include "shufflenet/model.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "abi.h"
#include "backbone.h"
#include "isa.h"
#include "log.h"
#include "message.h"
#include "run_check.h"
#include "safetensors.h"

namespace shufflenet::inline SHUFFLENET_ABI {

namespace {

/// Memory of one thread: activations of one image, and scratch.
struct Arena {
    HugePages pages;
    AlignedArray<float> activations;
    AlignedArray<std::byte> scratch;

    /// `floats` of activations; false: out of memory.
    [[nodiscard]] bool allocate(size_t floats) {
        const size_t bytes = floats * sizeof(float);
        if (!pages.map(HugePages::room(bytes) + kScratchBytes)) {
            return activations.allocate(floats) && scratch.allocate(kScratchBytes);
        }
        activations.place(pages.take(bytes), floats);
        scratch.place(pages.take(kScratchBytes), kScratchBytes);
        return true;
    }
};

using message::guarded;
using message::out_of_memory;

}  // namespace

/// What a Model object holds.
struct ModelState {
    Backbone backbone;
    std::shared_ptr<const PackedWeights> weights;
    std::vector<Arena> arenas;     // One for each thread that takes part in runs.
    std::vector<Scratch> scratch;  // Likewise.
    ThreadPool pool;
    const float *last_arena = nullptr;  // Where the last image of the last run went.
    bool last_conv5 = false;

    Status make(const shufflenet_descriptor &descriptor, int threads);
    Status adopt(const Safetensors &tensors, const std::string &name);
    Status check(size_t input, int batch, size_t logits, std::span<const FeatureRequest> features) const;
};

Status ModelState::make(const shufflenet_descriptor &descriptor, int threads) {
    if (Status status = check_abi(descriptor); !status.ok()) return status;
    const auto network = find_any_network(descriptor.network);
    if (!network) {
        return {Code::kInternal, std::string(descriptor.name) + ": unknown network " + descriptor.network};
    }
    const shufflenet_kernels *kernels = nullptr;
    if (Status status = choose_kernels(descriptor, &kernels); !status.ok()) return status;
    if (Status status = pool.start(threads); !status.ok()) return status;
    backbone = network->is_comparison() ? make_backbone(descriptor, *kernels, *network->comparison())
                                        : make_backbone(descriptor, *kernels, *network->shufflenet_v2());

    const int active = pool.active();
    arenas.resize(active);
    scratch.resize(active);
    for (int t = 0; t < active; ++t) {
        if (!arenas[t].allocate(backbone.arena_size)) return out_of_memory("activations");
        scratch[t] = {.begin = arenas[t].scratch.data(), .size = arenas[t].scratch.size()};
    }
    if (logging()) {
        log_debug("%s: %s chosen of %s, %d threads, %d of them active, an arena of %zu bytes each", descriptor.name,
                  kernels->isa, isa_names(descriptor).c_str(), pool.threads(), active,
                  arena_bytes(*network, backbone.input));
    }
    return {};
}

Status ModelState::adopt(const Safetensors &tensors, const std::string &name) {
    LogTimer timer;
    auto packed = std::make_shared<PackedWeights>();
    const AnyNetwork network = *find_any_network(backbone.descriptor->network);
    Status status = pack_weights(tensors, name, network, backbone.input, kPanelFloats, packed.get());
    if (status.ok()) {
        log_debug("%s: %zu tensors, %d classes, checked and packed for %s in %.2f ms", name.c_str(),
                  tensors.tensors().size(), packed->classes, backbone.descriptor->name, timer.lap());
        weights = std::move(packed);
        last_arena = nullptr;
    }
    return status;
}

Status ModelState::check(size_t input, int batch, size_t logits, std::span<const FeatureRequest> features) const {
    if (!features.empty() && backbone.chain) {
        return {Code::kBadInput, std::string(backbone.descriptor->name) + ": a comparison network has no features"};
    }
    return check_run({backbone.descriptor->name, weights.get(), backbone.input, &backbone.stages, backbone.network},
                     input, batch, logits, features);
}

namespace {

/// A run of a whole batch. Groups of images share one pass over the fully connected layer's weights; within a group
/// whole images go to threads while there is one for each, and the threads share the images that are left.
class BatchRun {
  public:
    BatchRun(ModelState &model, std::span<const float> input, std::span<float> logits,
             std::span<const FeatureRequest> features) noexcept
        : m_(model), input_(input.data()), logits_(logits.data()), features_(features) {
        for (const FeatureRequest &request : features) {
            conv5_wanted_ |= request.feature == Feature::kConv5 && !request.out.empty();
        }
        shared_.pool = &m_.pool;
        shared_.scratch = m_.scratch.data();
    }

    Status run(int batch) {
        LogTimer timer;
        batch_ = batch;
        m_.last_arena = nullptr;
        m_.last_conv5 = conv5_wanted_;
        for (int first = 0; first < batch; first += kImageGroup) {
            if (!run_group(first, std::min(kImageGroup, batch - first))) return error();
        }
        m_.last_arena = last_;
        log_debug("%s: run, batch %d, %d threads: %.3f ms", name(), batch, m_.pool.threads(), timer.lap());
        return {};
    }

  private:
    bool run_group(int first, int images) noexcept {
        const int threads = m_.pool.active();
        const int apart = threads > 1 && images >= threads ? images / threads * threads : 0;
        first_ = first;
        next_ = 0;
        if (apart > 0) m_.pool.run(apart, run_apart, this);
        for (int i = apart; i < images && !failed(); ++i) run_image(i, 0, shared_);
        if (!failed()) {
            LogTimer timer;
            ImageRun head(m_.backbone, *m_.weights, nullptr, shared_);
            if (!head.fully_connected(pooled(0), images, logits_ + size_t(first) * m_.weights->classes)) {
                fail(head.failed(), shared_);
            }
            log_debug("%s: fc, batch %d: %.3f ms", name(), images, timer.lap());
        }
        return !failed();
    }

    /// An image on one thread alone. Images start in order, whichever task comes first: who takes the last one finds
    /// no other, and leaves it in its arena, where views look.
    static void run_apart(void *argument, int /*task*/, int thread) {
        auto *batch = static_cast<BatchRun *>(argument);
        if (batch->failed()) return;
        const int image = batch->next_.fetch_add(1, std::memory_order_relaxed);
        KernelError error;
        KernelContext alone{.scratch = &batch->m_.scratch[thread], .error = &error};
        batch->run_image(image, thread, alone);
    }

    void run_image(int image, int thread, KernelContext &context) noexcept {
        float *arena = m_.arenas[thread].activations.data();
        const size_t number = size_t(first_) + image;
        ImageRun run(m_.backbone, *m_.weights, arena, context);
        LogTimer timer;
        if (m_.backbone.chain) return run_chain(run, image, thread, context);
        std::array<double, 6> ms{};
        size_t step = 0;
        const auto timed = [&](bool ok) {
            ms[step++] = timer.lap();
            return ok;
        };
        const bool ok = timed(run.stem(input_ + number * 3 * m_.backbone.input.pixels())) && timed(run.stage(2)) &&
                        timed(run.stage(3)) && timed(run.stage(4)) && timed(!conv5_wanted_ || run.conv5()) &&
                        timed(run.pool(pooled(image)));
        if (!ok) return fail(run.failed(), context);
        log_debug(
            "%s: image %zu, thread %d: stem %.3f, stage2 %.3f, stage3 %.3f, stage4 %.3f, conv5 %.3f, pool %.3f ms",
            name(), number, thread, ms[0], ms[1], ms[2], ms[3], ms[4], ms[5]);
        for (const FeatureRequest &request : features_) {
            if (request.out.empty()) continue;
            float *out = request.out.data() + number * m_.backbone.feature_shape(request.feature).elements();
            copy_feature(m_.backbone, *m_.weights, arena, request.feature, request.layout, out);
        }
        if (number + 1 == size_t(batch_)) last_ = arena;
    }

    void run_chain(ImageRun &run, int image, int thread, const KernelContext &context) noexcept {
        const size_t number = size_t(first_) + image;
        const float *chw = input_ + number * 3 * m_.backbone.input.pixels();
        const auto steps = static_cast<int>(m_.backbone.chain->chain.steps.size());
        LogTimer timer;
        for (int i = 0; i < steps; ++i) {
            if (!run.step(i, chw, pooled(image))) return fail(run.failed(), context);
            log_debug("%s: image %zu, thread %d: step %d: %.3f ms", name(), number, thread, i, timer.lap());
        }
    }

    float *pooled(int image) const {
        return m_.arenas[0].activations.data() + m_.backbone.pooled + size_t(image) * m_.backbone.pooled_stride;
    }

    const char *name() const { return m_.backbone.descriptor->name; }
    bool failed() const { return failed_.load(); }
    void fail(const Name &stage, const KernelContext &context) noexcept {
        if (failed_.exchange(true)) return;
        failed_stage_ = stage;
        message_ = context.error->message;
    }
    Status error() const {
        return {Code::kInternal, std::string(m_.backbone.descriptor->name) + ": " + std::string(failed_stage_.view()) +
                                     ": " + message_.data()};
    }

    ModelState &m_;
    const float *input_;
    float *logits_;
    std::span<const FeatureRequest> features_;
    bool conv5_wanted_ = false;
    int batch_ = 0, first_ = 0;
    std::atomic<int> next_{0};  ///< Image of the group that starts next.
    KernelError shared_error_;
    KernelContext shared_{.error = &shared_error_};
    std::atomic<bool> failed_{false};
    Name failed_stage_;
    std::array<char, 512> message_{};
    const float *last_ = nullptr;
};

}  // namespace

Model::Model() noexcept = default;
Model::Model(Model &&) noexcept = default;
Model &Model::operator=(Model &&) noexcept = default;
Model::~Model() = default;

Status Model::open(const shufflenet_descriptor &descriptor, int threads) {
    return guarded("the model", [&] {
        auto state = std::make_unique<ModelState>();
        Status status = state->make(descriptor, threads);
        if (status.ok()) state_ = std::move(state);
        return status;
    });
}

Status Model::load_weights(std::span<const std::byte> safetensors, const std::string &name) {
    return guarded("weights", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, name + ": weights for a model that is not open"};
        Safetensors tensors;
        if (Status status = Safetensors::parse(safetensors, name, &tensors); !status.ok()) return status;
        return state_->adopt(tensors, name);
    });
}

Status Model::load_weights(const std::string &path) {
    return guarded("weights", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, path + ": weights for a model that is not open"};
        Safetensors tensors;
        if (Status status = Safetensors::open(path, &tensors); !status.ok()) return status;
        return state_->adopt(tensors, path);
    });
}

Status Model::load_embedded_weights() {
    return guarded("weights", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, "embedded weights for a model that is not open"};
        const shufflenet_descriptor &d = *state_->backbone.descriptor;
        if (d.weights == nullptr) return {Code::kBadInput, std::string(d.name) + ": has no embedded weights"};
        return load_weights(std::as_bytes(std::span(d.weights, d.weights_end)), std::string(d.name) + " (embedded)");
    });
}

Status Model::share(Model *other, int threads) const {
    return guarded("the model", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, "share() of a model that is not open"};
        Model made;
        if (Status status = made.open(*state_->backbone.descriptor, threads); !status.ok()) return status;
        made.state_->weights = state_->weights;
        *other = std::move(made);
        return {};
    });
}

Status Model::run(std::span<const float> input, int batch, std::span<float> logits,
                  std::span<const FeatureRequest> features) noexcept {
    return guarded("an error message", [&]() -> Status {
        if (state_ == nullptr) return {Code::kBadInput, "run() of a model that is not open"};
        if (Status status = state_->check(input.size(), batch, logits.size(), features); !status.ok()) return status;
        return BatchRun(*state_, input, logits, features).run(batch);
    });
}

FeatureShape Model::feature_shape(Feature feature) const {
    return state_ == nullptr ? FeatureShape{} : state_->backbone.feature_shape(feature);
}

Status Model::view(Feature feature, FeatureView *view) const {
    return guarded("an error message", [&]() -> Status {
        if (state_ != nullptr && state_->backbone.chain) {
            return {Code::kBadInput, "view(): a comparison network has no features"};
        }
        if (state_ == nullptr || state_->last_arena == nullptr) return {Code::kBadInput, "view() before a run()"};
        if (feature == Feature::kConv5 && !state_->last_conv5) {
            return {Code::kBadInput, "view(): the last run did not ask for conv5"};
        }
        *view = {state_->backbone.feature_shape(feature), feature_data(state_->backbone, state_->last_arena, feature),
                 feature_pixel_stride(state_->backbone, feature),
                 state_->weights->channel_offset[static_cast<int>(feature)]};
        return {};
    });
}

ModelInfo describe(const shufflenet_descriptor &d) {
    if (!check_abi(d).ok()) return {};
    ModelInfo info{d.name,
                   d.network,
                   d.height,
                   d.width,
                   d.classes,
                   isa_names(d),
                   d.weights != nullptr,
                   d.metadata == nullptr ? "" : d.metadata,
                   0};
    if (const auto network = find_any_network(d.network)) info.arena_bytes = arena_bytes(*network, {d.height, d.width});
    return info;
}

ModelInfo Model::info() const {
    if (state_ == nullptr) return {};
    ModelInfo info = describe(*state_->backbone.descriptor);
    info.classes = classes();
    return info;
}

int Model::classes() const {
    if (state_ == nullptr) return 0;
    const PackedWeights *weights = state_->weights.get();
    return weights != nullptr ? weights->classes : state_->backbone.descriptor->classes;
}
int Model::threads() const { return state_ == nullptr ? 0 : state_->pool.threads(); }
bool Model::has_weights() const { return state_ != nullptr && state_->weights != nullptr; }
const char *Model::isa() const { return state_ == nullptr ? "" : state_->backbone.kernels->isa; }

}  // namespace shufflenet::inline SHUFFLENET_ABI
